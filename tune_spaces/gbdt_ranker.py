"""What to search for boosted trees over candidates. Validated on users that trees do not learn from."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("validation ndcg@10", "max")
BUDGET = Budget(trials=40)
SPACE = {
    "holdout": 0.2,
    "model.early_stopping_rounds": 15,
    "model.rounds": 300,
    "model.learning_rate": tune.loguniform(0.02, 0.3),
    "model.max_depth": tune.randint(2, 8),
    "model.min_child_weight": tune.loguniform(0.3, 30.0),
    "model.feature_fraction": tune.uniform(0.4, 1.0),
    "model.l2": tune.loguniform(0.1, 30.0),
    "model.objective": tune.choice(["rank:ndcg", "rank:map", "rank:pairwise"]),
    "model.pairs_per_query": tune.choice([8, 16, 32, 64]),
}
IGNORED = {
    "candidates": "another list to order has another NDCG: the space of two_stage",
    "negatives": "the same: they are in the lists of the users held out too",
    "model.subsample": "below 1 trees depend on the number of workers",
    "features": "those that are of no use are left alone by the trees",
}

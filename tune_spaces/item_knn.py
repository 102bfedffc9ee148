"""What to search for ItemKNN: dotted paths of its run."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("ndcg@10", "max")
BUDGET = Budget(trials=30)
SPACE = {
    "model.num_neighbors": tune.lograndint(10, 501),
    "model.shrink": tune.uniform(0.0, 100.0),
    "model.asymmetry": tune.uniform(0.3, 0.8),
    "model.user_normalization": tune.choice([0.0, 0.5, 1.0]),
    "model.recency": tune.choice([0.0, 3.0, 5.0, 10.0, 20.0]),
}
IGNORED = {
    "data.weights": "what a rating is worth is said by the data",
}

"""What to search for iALS: dotted paths of its run."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("ndcg@10", "max")
BUDGET = Budget(trials=40)
SPACE = {
    "model.embedding_dim": tune.choice([32, 64, 128]),
    "model.unobserved_weight": tune.loguniform(0.01, 3.0),
    "model.l2": tune.loguniform(1e-4, 0.1),
    "model.recency": tune.choice([0.0, 3.0, 5.0, 10.0, 20.0]),
}
IGNORED = {
    "model.frequency_power": "1 is best or near it in the paper, and another needs another l2",
    "model.iterations": "the objective has settled; more costs time",
    "data.weights": "what a rating is worth is said by the data",
}

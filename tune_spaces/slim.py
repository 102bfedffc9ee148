"""What to search for SLIM: dotted paths of its run."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("ndcg@10", "max")
BUDGET = Budget(trials=30)
SPACE = {
    "model.l1": tune.loguniform(0.3, 30.0),
    "model.l2": tune.loguniform(3.0, 1000.0),
    "model.recency": tune.choice([0.0, 3.0, 5.0, 10.0, 20.0]),
}
IGNORED = {
    "data.weights": "what a rating is worth is said by the data",
    "model.sweeps": "more than it takes",
    "model.max_items": "a guard of the machine's memory",
}

"""What to search for EASE: dotted paths of its run."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("ndcg@10", "max")
BUDGET = Budget(trials=30)
SPACE = {
    "model.l2": tune.loguniform(10.0, 3000.0),
    "model.recency": tune.choice([0.0, 3.0, 5.0, 10.0, 20.0]),
}
IGNORED = {
    "data.weights": "what a rating is worth is said by the data",
    "model.max_items": "a guard of the machine's memory",
}

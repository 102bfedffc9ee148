"""What to search for LightGCN: dotted paths of its run."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("ndcg@10", "max")
BUDGET = Budget(trials=40, grace=5, mutable=("optim.lr", "model.l2"))
SPACE = {
    "optim.lr": tune.loguniform(3e-4, 3e-2),
    "model.embedding_dim": tune.choice([32, 64, 128]),
    "model.layers": tune.randint(1, 5),
    "model.l2": tune.loguniform(1e-5, 1e-1),
    "negatives": tune.choice([1, 4, 16]),
    "recency": tune.choice([0.0, 5.0, 10.0, 20.0]),
}
IGNORED = {
    "loop.batch_size": "the rate follows it",
}

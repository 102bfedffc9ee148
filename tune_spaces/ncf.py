"""What to search for NeuMF: dotted paths of its run."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("ndcg@10", "max")
BUDGET = Budget(trials=40, grace=3)
SPACE = {
    "optim.lr": tune.loguniform(3e-4, 1e-2),
    "optim.weight_decay": tune.choice([0.0, 1e-4, 1e-2]),
    "model.factor_dim": tune.choice([32, 64, 128]),
    "model.mlp_dim": tune.choice([32, 64, 128]),
    "model.hidden_dims": tune.choice([[32, 16], [64, 32], [128, 64, 32]]),
    "model.dropout": tune.uniform(0.0, 0.6),
    "negatives": tune.choice([2, 4, 8, 16]),
    "recency": tune.choice([0.0, 5.0, 10.0, 20.0, 40.0]),
}
IGNORED = {
    "loop.batch_size": "small data caps it, and the rate follows it",
    "optim.schedule": "early stopping ends most runs before a schedule does",
}

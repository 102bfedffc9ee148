"""What to search for GRU4Rec: dotted paths of its run."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("ndcg@10", "max")
BUDGET = Budget(trials=40, grace=3, mutable=("optim.lr", "optim.weight_decay", "model.dropout"))
SPACE = {
    "optim.lr": tune.loguniform(3e-4, 1e-2),
    "optim.weight_decay": tune.loguniform(1e-4, 1e-1),
    "model.dim": tune.choice([32, 64, 128]),
    "model.hidden_dim": tune.choice([64, 128, 256]),
    "model.num_layers": tune.randint(1, 3),
    "model.dropout": tune.uniform(0.0, 0.6),
    "model.max_items": tune.choice([50, 100, 200]),
}
IGNORED = {
    "loop.batch_size": "the rate follows it",
    "model.loss": "follows the size of the catalogue",
    "model.side_features": "whether a new item must be known is not a matter of score",
    "validation_users": "trials are compared on the same users",
}

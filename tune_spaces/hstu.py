"""What to search for HSTU: dotted paths of its run."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("ndcg@10", "max")
BUDGET = Budget(trials=40, grace=3, mutable=("optim.lr", "optim.weight_decay", "model.dropout"))
SPACE = {
    "optim.lr": tune.loguniform(3e-4, 1e-2),
    "optim.weight_decay": tune.loguniform(1e-4, 1e-1),
    "model.dim": tune.choice([32, 64, 128]),
    "model.num_heads": tune.choice([1, 2, 4]),
    "model.num_layers": tune.randint(1, 5),
    "model.dropout": tune.uniform(0.0, 0.6),
    "model.max_items": tune.choice([50, 100, 200]),
}
IGNORED = {
    "loop.batch_size": "the rate follows it",
    "model.loss": "follows the size of the catalogue",
    "model.side_features": "whether a new item must be known is not a matter of score",
    "validation_users": "trials are compared on the same users",
    "model.time_bias": "whether waits mean something is said by the data",
    "model.attention_dim": "heads are as many as it takes",
    "model.value_dim": "likewise",
}

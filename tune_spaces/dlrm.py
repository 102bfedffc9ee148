"""What to search for a DLRM that predicts clicks: dotted paths of its run."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("auc", "max")
BUDGET = Budget(trials=40, grace=2)
SPACE = {
    "optim.lr": tune.loguniform(3e-4, 1e-2),
    "model.embedding.lr": tune.loguniform(1e-3, 1e-1),
    "model.embedding_dim": tune.choice([8, 16, 32]),
    "model.interaction": tune.choice(["dot", "concat", "dcnv2"]),
    "model.dropout": tune.uniform(0.0, 0.4),
    "model.unknown": tune.uniform(0.0, 0.5),
    "model.top": tune.choice([[64, 32], [128, 64], [512, 256]]),
}
IGNORED = {
    "model.cross_layers": "counts for dcnv2 alone",
    "model.cross_rank": "counts for dcnv2 alone",
    "model.bottom": "dense columns are few beside the categories",
    "model.dense": "follows what the columns are, which the preset knows",
}

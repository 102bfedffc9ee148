"""What to search for a DLRM that predicts clicks: dotted paths of its run config."""

from ray import tune

GOAL = "auc"
SPACE = {
    "optim.lr": tune.loguniform(3e-4, 3e-3),
    "model.embedding.lr": tune.loguniform(2e-3, 5e-2),
    "model.embedding_dim": tune.choice([8, 16, 32]),
    "model.interaction": tune.choice(["dot", "concat", "dcnv2"]),
    "model.dropout": tune.uniform(0.0, 0.4),
    "model.unknown": tune.uniform(0.0, 0.8),
}

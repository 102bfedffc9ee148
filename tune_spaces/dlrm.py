"""What to search for a DLRM: dotted paths of its run config."""

from ray import tune

GOAL = "auc"
SPACE = {
    "optim.lr": tune.loguniform(3e-4, 1e-2),
    "model.embedding.lr": tune.loguniform(3e-3, 1e-1),
    "model.embedding_dim": tune.choice([8, 16, 32]),
    "model.interaction": tune.choice(["dot", "concat", "dcnv2"]),
    "model.dropout": tune.uniform(0.0, 0.4),
}

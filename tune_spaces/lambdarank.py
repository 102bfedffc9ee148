"""What to search for a DLRM that orders sessions: dotted paths of its run."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("ndcg@10", "max")
BUDGET = Budget(trials=40, grace=3)
SPACE = {
    "optim.lr": tune.loguniform(3e-4, 1e-2),
    "optim.weight_decay": tune.loguniform(1e-3, 3e-1),
    "model.embedding.lr": tune.loguniform(1e-3, 1e-1),
    "model.embedding_dim": tune.choice([8, 16, 32, 128]),
    "model.interaction": tune.choice(["dot", "concat", "dcnv2"]),
    "model.dropout": tune.uniform(0.0, 0.6),
    "model.unknown": tune.uniform(0.0, 0.6),
    "model.top": tune.choice([[64], [64, 32], [128, 64]]),
}
IGNORED = {
    "model.loss": "bce is the space of dlrm",
    "model.ndcg_at": "the goal is ndcg@10",
    "loop.batch_size": "sessions differ in length: the rate follows it",
    "model.dense": "follows what the columns are, which the preset knows",
}

"""What to search for a two-tower retriever: dotted paths of its run."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("ndcg@10", "max")
BUDGET = Budget(trials=40, grace=8, mutable=("optim.lr", "model.dropout", "model.temperature"))
SPACE = {
    "optim.lr": tune.loguniform(3e-4, 2e-2),
    "optim.weight_decay": tune.choice([0.0, 1e-4, 1e-2]),
    "model.temperature": tune.uniform(0.05, 0.25),
    "model.dropout": tune.uniform(0.0, 0.6),
    "model.embedding_dim": tune.choice([32, 64, 128]),
    "recency": tune.choice([0.0, 5.0, 10.0, 20.0, 40.0]),
}
IGNORED = {
    "model.hidden_dims": "an MLP on top of the towers costs serving time",
    "loop.batch_size": "in-batch negatives follow it, and small data caps it",
    "optim.schedule": "early stopping ends most runs before a schedule does",
}

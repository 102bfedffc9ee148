"""What to search for a two-tower retriever: dotted paths of its run config."""

from ray import tune

GOAL = "ndcg@10"
SPACE = {
    "optim.lr": tune.loguniform(3e-4, 2e-2),
    "model.temperature": tune.uniform(0.05, 0.25),
    "model.dropout": tune.uniform(0.0, 0.5),
    "model.embedding_dim": tune.choice([32, 64, 128]),
    "recency": tune.choice([0.0, 5.0, 10.0, 20.0, 40.0]),
}

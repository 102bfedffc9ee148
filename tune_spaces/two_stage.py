"""What to search for a whole application: two towers, their candidates, trees that rank, and rules."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("ndcg@10", "max")
BUDGET = Budget(trials=40)
SPACE = {
    "retriever.optim.lr": tune.loguniform(3e-4, 2e-2),
    "retriever.model.temperature": tune.uniform(0.05, 0.25),
    "retriever.model.dropout": tune.uniform(0.0, 0.6),
    "retriever.recency": tune.choice([0.0, 5.0, 10.0, 20.0, 40.0]),
    "ranker.candidates.retrieved": tune.choice([50, 100, 200, 400]),
    "ranker.candidates.popular": tune.choice([0, 20, 50]),
    "ranker.negatives": tune.choice([20, 50, 100]),
    "ranker.model.learning_rate": tune.loguniform(0.03, 0.3),
    "ranker.model.rounds": tune.choice([30, 60, 120, 200]),
    "ranker.model.max_depth": tune.randint(2, 7),
    "ranker.model.feature_fraction": tune.uniform(0.4, 1.0),
    "stages.rules.diversity.strength": tune.choice([0.0, 0.05, 0.1, 0.2]),
}
IGNORED = {
    "ranker.model.early_stopping_rounds": "the users that it would go by are those that judge",
    "stages.rules.pinned": "what a shop wants shown is no matter of score",
    "stages.rules.per_category": "needs a column that not every catalogue has",
    "stages.rules.fresh": "needs a column that not every catalogue has",
}

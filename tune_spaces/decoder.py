"""What to search for a decoder of semantic ids: dotted paths of its run."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("ndcg@10", "max")
BUDGET = Budget(
    trials=30, grace=4, mutable=("optim.lr", "optim.weight_decay", "model.dropout", "model.user_dropout")
)
SPACE = {
    "optim.lr": tune.loguniform(3e-4, 1e-2),
    "optim.weight_decay": tune.loguniform(1e-3, 1e-1),
    "optim.warmup_steps": tune.choice([0, 50, 200, 500]),
    "model.dropout": tune.uniform(0.0, 0.4),
    "model.user_dropout": tune.uniform(0.0, 0.5),
    "model.softmax": tune.choice(["codebook", "catalogue"]),
}
IGNORED = {
    "model.dim": "its size follows the data and the machine, as the preset has them",
    "semantic_ids": "other codes are another search: rqvae",
    "model.beams": "more always find more: a matter of time",
    "model.history_tokens": "a matter of time: codes take several times as long",
    "model.encoder": "the same",
}

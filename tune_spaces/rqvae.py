"""What to search for an RQ-VAE: dotted paths of its run. Every item counts, there is no part held out."""

from ray import tune

from recray.pipelines.tune.spaces import Budget, Goal

GOAL = Goal("reconstruction", "min")
BUDGET = Budget(trials=40, grace=5)
SPACE = {
    "optim.lr": tune.loguniform(5e-4, 2e-2),
    "model.latent_dim": tune.choice([8, 16, 32, 64]),
    "model.hidden_dims": tune.choice([[128], [256, 128], [512, 256, 128]]),
    "model.commitment": tune.loguniform(0.05, 1.0),
    "model.quantizer.estimator": tune.choice(["ste", "rotation", "gumbel"]),
    "model.quantizer.distance": tune.choice(["l2", "cosine"]),
    "model.quantizer.revive_every": tune.choice([0, 20, 50, 100]),
}
IGNORED = {
    "model.quantizer.codebook_size": "larger always keeps more: it follows the catalogue",
    "model.quantizer.levels": "the same",
    "model.spread": "gives up reconstruction for fewer collisions: only the decoder can tell",
    "content": "other vectors have other errors, which are not comparable",
}

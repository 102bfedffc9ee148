"""Train an RQ-VAE on item content and publish it; jobs/assign_semantic_ids.py makes the codes.

python jobs/train_rqvae.py amazon-beauty --launch.where local --model.quantizer.estimator rotation
"""

from recray.cli.training import run_training

if __name__ == "__main__":
    run_training("rqvae", __doc__)

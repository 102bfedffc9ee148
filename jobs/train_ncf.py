"""Train NCF (NeuMF) and publish it; it scores the catalogue, without an index.

python jobs/train_ncf.py ml-100k --negatives 16 --launch.workers 2
"""

from recray.cli.training import run_training

if __name__ == "__main__":
    run_training("ncf", __doc__)

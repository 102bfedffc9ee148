"""Train a generative retriever (TIGER) on published semantic ids, and publish it.

python jobs/train_decoder.py ml-100k --optim.lr 3e-3 --launch.where local
"""

from recray.cli.training import run_training

if __name__ == "__main__":
    run_training("decoder", __doc__)

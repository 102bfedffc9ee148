"""Train a DLRM to order sessions by LambdaRank, on Ray Train workers, and publish it.

python jobs/train_lambdarank.py ltr-lightgbm --model.ndcg-at 5 --launch.workers 2
"""

from recray.cli.training import run_training

if __name__ == "__main__":
    run_training("lambdarank", __doc__)

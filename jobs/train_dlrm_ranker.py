"""Train a DLRM on a published retriever's candidates, compare, and publish it.

python jobs/train_dlrm_ranker.py ml-1m --data.split global-time
"""

from recray.cli.training import run_training

if __name__ == "__main__":
    run_training("dlrm_ranker", __doc__)

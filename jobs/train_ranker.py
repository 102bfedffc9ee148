"""Train XGBoost on a published retriever's candidates, compare, and publish it.

python jobs/train_ranker.py ml-1m --data.split global-time --promote
"""

from recray.cli.training import run_training

if __name__ == "__main__":
    run_training("gbdt_ranker", __doc__)

"""Train a two-tower retriever and publish it, ready to be searched.

python jobs/train_two_tower.py ml-100k --optim.lr 1e-3 --launch.workers 2
python jobs/train_two_tower.py events.csv --promote
"""

from recray.cli.training import run_training

if __name__ == "__main__":
    run_training("two_tower", __doc__)

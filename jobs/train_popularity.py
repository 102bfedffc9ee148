"""Count how often each item was chosen, and publish it: what everything else must beat.

python jobs/train_popularity.py ml-100k
"""

from recray.cli.training import run_training

if __name__ == "__main__":
    run_training("popularity", __doc__)

"""Train SS4Rec on what users did and when, and publish it, ready to be searched.

python jobs/train_ss4rec.py ml-100k --launch.workers 2
"""

from recray.cli.training import run_training

if __name__ == "__main__":
    run_training("ss4rec", __doc__)

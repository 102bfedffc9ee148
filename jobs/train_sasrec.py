"""Train SASRec on what users did in order, and publish it, ready to be searched.

python jobs/train_sasrec.py ml-100k --model.max-items 200 --launch.workers 2
"""

from recray.cli.training import run_training

if __name__ == "__main__":
    run_training("sasrec", __doc__)

"""Train a DLRM on rows of clicks, on Ray Train workers, and publish it.

python jobs/train_dlrm.py ml-1m --model.interaction dcnv2 --launch.workers 2
"""

from recray.cli.training import run_training

if __name__ == "__main__":
    run_training("dlrm", __doc__)

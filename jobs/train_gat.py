"""Train graph attention on the user-item graph and publish it, ready to be searched.

python jobs/train_gat.py ml-100k --data.split random
python jobs/compare_links.py ml-100k   # beside the two-tower, by links and by ranking
"""

from recray.cli.training import run_training

if __name__ == "__main__":
    run_training("gat", __doc__)

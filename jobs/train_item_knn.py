"""Count which items were chosen by the same users, and publish it: seconds to a served list.

python jobs/train_item_knn.py ml-100k
"""

from recray.cli.training import run_training

if __name__ == "__main__":
    run_training("item_knn", __doc__)

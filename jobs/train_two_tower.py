"""Train a two-tower retriever on Ray Train workers and publish it, ready to be searched.

python jobs/train_two_tower.py ml-100k --optim.lr 1e-3 --launch.workers 2
"""

from recray.cli.retrievers import run_retriever_job

if __name__ == "__main__":
    run_retriever_job("two_tower", __doc__)

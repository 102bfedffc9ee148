"""Train a SASRec on Ray Train workers and publish it, ready to be searched by query vector.

python jobs/train_sasrec.py ml-100k --optim.lr 1e-3 --launch.workers 2
"""

from recray.cli.retrievers import run_retriever_job

if __name__ == "__main__":
    run_retriever_job("sasrec", __doc__)

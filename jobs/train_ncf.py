"""Train NCF (NeuMF) on Ray Train workers and publish it; it scores the catalogue, without an index.

python jobs/train_ncf.py ml-100k --negatives 16 --launch.workers 2
"""

from recray.cli.retrievers import run_retriever_job

if __name__ == "__main__":
    run_retriever_job("ncf", __doc__)

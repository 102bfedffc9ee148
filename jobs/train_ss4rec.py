"""Train an SS4Rec on Ray Train workers and publish it, ready to be searched by query vector.

python jobs/train_ss4rec.py ml-1m --model.num-blocks 2 --launch.where local
"""

from recray.cli.retrievers import run_retriever_job

if __name__ == "__main__":
    run_retriever_job("ss4rec", __doc__)

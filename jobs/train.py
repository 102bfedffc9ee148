"""Train anything that `recray models` lists, measure it on the test part, and publish it.

python jobs/train.py s5 ml-100k
python jobs/train.py mamba events.csv --model.max-items 50
"""

import sys

from recray.cli.training import run_named_training

if __name__ == "__main__":
    run_named_training(sys.argv[1:], __doc__)

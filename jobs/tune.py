"""Search a model's settings with Ray Tune; validation decides, the test part is looked at once, at the end.

python jobs/tune.py two_tower ml-100k --trials 40
python jobs/tune.py sasrec events.csv --trials 20 --data.split global-time --no-publish
"""

from recray.cli.tune import run_tuning

if __name__ == "__main__":
    run_tuning(__doc__)

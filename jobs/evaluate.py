"""Compare models under one protocol: a table with intervals, a plot, and JSON.

python jobs/evaluate.py ml-100k --data.split leave-one-out --models popularity item_knn two_tower
python jobs/evaluate.py --logged ml-100k-ranker   # its candidate beside production, by what it logged
"""

import json

from recray.cli.evaluate import Evaluate
from recray.cli.jobs import run_on_data
from recray.cli.logged import evaluate_logged
from recray.cli.show import show_evaluation
from recray.eval.compare import plot, to_json
from recray.peers.recbole import read_rows
from recray.pipelines.compare import compare_models


def main(config: Evaluate) -> None:
    if config.logged:
        evaluate_logged(config.logged, config.judged, config.json)
        return
    data = config.data
    beside = read_rows(config.beside, data.dataset, data.split, config.ks[0])  # before any training
    rows = compare_models(data, config.models, config.seeds, config.ks, config.curves, strict=config.strict)
    rows += beside
    if config.json:
        config.json.write_text(json.dumps(to_json(rows), indent=1))
    show_evaluation(rows)
    plot(rows, config.plot)
    print("wrote", *(path for path in (config.plot, config.curves, config.json) if path and path.exists()))


if __name__ == "__main__":
    run_on_data(main, Evaluate, __doc__)

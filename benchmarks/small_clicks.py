"""DLRM's defaults on a few thousand rows, beside logistic regression and boosted trees.

python -m benchmarks.small_clicks [--seeds 3] [--only criteo films] [--models dlrm dcnv2 ...]

* criteo: the 8,000 lines of Criteo's sample
* films: 9,000 ratings of MovieLens 100K as a table of clicks (a rating of at least 4), with what is known of
  user and film as columns of a CSV file
* other films: 9,000 further ratings, by which no default was chosen

Each set is cut into five folds by chance: 70 % of the rows to train on, 10 % to validate, 20 % to test. DLRM
and DCNv2 (the same with a cross network) run with the defaults of `recray train dlrm FOLDER`; peers are tuned
on the validation part. Figures are of the test rows of all folds together, means over seeds with intervals
over rows. "As before": without bins and linear part. The last line is one JSON object.
"""

import argparse
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.click_peers import Blocks, Ignored, lightgbm_trees, logistic_regression, xgboost_trees
from recray.config import override
from recray.data.row_source import PARTS
from recray.data.rows.table import RowTable
from recray.data.sources.files.raw_files import find_raw, find_raw_folder
from recray.eval.clicks import ClickEvaluation, difference, summary
from recray.pipelines.train import fit
from recray.recipes.dlrm import DLRM_RECIPE, open_rows
from recray.recipes.row_metrics import row_card
from recray.track.console import setup_logging
from recray.train.context import LaunchConfig

RESULT = Path(__file__).parent / "results" / "small_clicks.json"
FOLDS = 5
FILM_ROWS = 9_000
GENRES = tuple(f"genre{number}" for number in range(19))
LOCAL = LaunchConfig(where="local")
DEPTHS = (2, 4, 6)
NEURAL: dict[str, dict[str, Any]] = {
    "dlrm": {},
    "dcnv2": {"model.interaction": "dcnv2"},
    "dlrm, as before": {
        "model.bins": 0,
        "model.linear": False,
        "model.dropout": 0.2,
        "loop.metric": "auc",
        "loop.goal": "max",
        "loop.epochs": 10,
        "loop.patience": 2,
    },
}
OF_FILMS: Ignored = ((), ("user", "film"), ("user",))
IGNORED: dict[str, Ignored] = {"criteo": ((),), "films": OF_FILMS, "other films": OF_FILMS}
PEERS: dict[str, Callable[[Blocks, Ignored, int], np.ndarray]] = {
    "logistic regression": lambda blocks, ignored, seed: logistic_regression(blocks, ignored),
    "xgboost": lambda blocks, ignored, seed: xgboost_trees(blocks, ignored, DEPTHS),
    "lightgbm": lightgbm_trees,
}


def criteo_lines() -> tuple[str, list[str]]:
    """(no header, lines)."""
    folder = find_raw_folder("criteo-sample")
    assert folder is not None, "criteo-sample is not at hand"
    names = ("train.csv", "dev.csv", "test.csv")
    return "", [line for name in names for line in (folder / name).read_text().splitlines()]


def film_lines(others: bool = False) -> tuple[str, list[str]]:
    """(header, lines) of ratings drawn by chance; ``others``: of the ratings that are left then."""
    path = find_raw("ml-100k.zip")
    assert path is not None, "ml-100k is not at hand"
    with zipfile.ZipFile(path) as archive:

        def table(name: str, separator: str, columns: Sequence[str]) -> pl.DataFrame:
            data = archive.read(f"ml-100k/{name}").decode("latin-1").encode()
            return pl.read_csv(
                io.BytesIO(data),
                separator=separator,
                has_header=False,
                new_columns=list(columns),
                quote_char=None,
                infer_schema_length=None,
            )

        ratings = table("u.data", "\t", ("user", "film", "rating", "when"))
        users = table("u.user", "|", ("user", "age", "gender", "occupation", "zip"))
        films = table("u.item", "|", ("film", "title", "released", "video", "imdb", *GENRES))
    drawn = ratings.sample(FILM_ROWS, seed=0, shuffle=True)
    if others:
        left = ratings.join(drawn, on=ratings.columns, how="anti", maintain_order="left")
        drawn = left.sample(FILM_ROWS, seed=0, shuffle=True)
    rows = drawn.join(users, on="user").join(films, on="film")
    rows = rows.select(
        label=(pl.col("rating") >= 4).cast(pl.Int8),
        user="u" + pl.col("user").cast(pl.String),
        film="f" + pl.col("film").cast(pl.String),
        age="age",
        gender="gender",
        occupation="occupation",
        area="z" + pl.col("zip").str.slice(0, 2),
        year=pl.col("released").str.slice(-4).cast(pl.Int32, strict=False),
        month=pl.col("released").str.slice(3, 3),
        hour=(pl.col("when") // 3600 % 24),
        **{genre: pl.col(genre) for genre in GENRES},
    )
    header, *lines = rows.write_csv().splitlines()
    return header + "\n", lines


SETS: dict[str, Callable[[], tuple[str, list[str]]]] = {
    "criteo": criteo_lines,
    "films": film_lines,
    "other films": partial(film_lines, others=True),
}


def write_fold(folder: Path, header: str, lines: Sequence[str], fold: int) -> Path:
    """train.csv, dev.csv and test.csv of a fold."""
    order = np.random.default_rng(0).permutation(len(lines))
    tested = np.arange(len(lines)) * FOLDS // len(lines) == fold
    left = np.random.default_rng(fold).permutation(order[~tested])
    held = len(lines) // 10
    parts = {"train": left[held:], "dev": left[:held], "test": order[tested]}
    folder.mkdir(parents=True)
    for name, rows in parts.items():
        (folder / f"{name}.csv").write_text(header + "".join(lines[row] + "\n" for row in rows))
    return folder


def neural(folder: Path, changes: dict[str, Any], seed: int) -> ClickEvaluation:
    run = override(DLRM_RECIPE.default(str(folder)), {**changes, "seed": seed, "refit": False})
    fitted = fit(DLRM_RECIPE, run, LOCAL)
    found = DLRM_RECIPE.measure(run, fitted.data, fitted.model)
    assert isinstance(found, ClickEvaluation)
    return found


def peer(
    table: RowTable, scores: Callable[[Blocks, Ignored, int], np.ndarray], ignored: Ignored, seed: int
) -> ClickEvaluation:
    blocks: Blocks = {part: table.read(part) for part in PARTS}
    labels_N = blocks["test"].labels_N.astype(np.float64)
    return ClickEvaluation(
        card=row_card(table, "test"),
        logits_N=scores(blocks, ignored, seed).astype(np.float64),
        labels_N=labels_N,
        units_N=np.arange(len(labels_N)),
    )


def together(name: str, folds: Sequence[ClickEvaluation]) -> ClickEvaluation:
    """The test rows of all folds."""
    labels_N = np.concatenate([each.labels_N for each in folds])
    card = replace(folds[0].card, dataset=name, dataset_hash="", split=f"{FOLDS} folds by chance")
    return ClickEvaluation(
        card=card,
        logits_N=np.concatenate([each.logits_N for each in folds]),
        labels_N=labels_N,
        units_N=np.arange(len(labels_N)),
    )


def compare(name: str, seeds: int, models: Sequence[str]) -> dict[str, Any]:
    """By model: AUC and logloss with intervals, and both over logistic regression's."""
    header, lines = SETS[name]()
    runs: dict[str, list[ClickEvaluation]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = [
            write_fold(Path(scratch) / f"{name.replace(' ', '-')}-{f}", header, lines, f)
            for f in range(FOLDS)
        ]
        for model in models:
            draws = model in NEURAL or model == "lightgbm"
            runs[model] = []
            for seed in range(seeds if draws else 1):
                folds = [
                    neural(folder, NEURAL[model], seed)
                    if model in NEURAL
                    else peer(_rows(folder), PEERS[model], IGNORED[name], seed)
                    for folder in folders
                ]
                runs[model].append(together(name, folds))
                print(f"{name}, {model}, seed {seed}: {runs[model][-1].means()}", flush=True)
    found: dict[str, Any] = {"rows": len(lines), "models": {}}
    for model, each in runs.items():
        row: dict[str, Any] = {"seeds": len(each)}
        row |= {metric: summary(each)[metric]._asdict() for metric in ("auc", "logloss")}
        if (base := runs.get("logistic regression")) and model != "logistic regression":
            over = {metric: difference(each, base, metric)._asdict() for metric in ("auc", "logloss")}
            row["over_logistic_regression"] = over
        found["models"][model] = row
    return found


def _rows(folder: Path) -> RowTable:
    return open_rows(DLRM_RECIPE.default(str(folder)).data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--models", nargs="*", default=[*PEERS, *NEURAL], choices=[*PEERS, *NEURAL])
    args = parser.parse_args()
    setup_logging()
    torch.set_num_threads(1)
    result: dict[str, Any] = {}
    for name in args.only:
        found = compare(name, args.seeds, args.models)
        result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        models = result.get(name, {}).get("models", {})  # one set, or some models, can be measured anew
        result[name] = {**found, "models": {**models, **found["models"]}}
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""The shortest script that trains on a CSV, recommends for three users and compares two models, beside peers.

``python -m benchmarks.minimal`` writes ml-100k as ``events.csv``, builds an environment for each peer (pip,
once) and runs every script as a process of its own: lines, imports, seconds and the highest memory.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import NamedTuple

import polars as pl

from recray import paths
from recray.data.events.prepare import load_or_prepare

RECRAY = """\
import recray

data = recray.load("events.csv")
model = recray.fit("item_knn", data)
print(model.recommend([1, 2, 3], k=10))
print(recray.compare(["popularity", model], data))
"""
RECTOOLS = """\
import pandas as pd
from implicit.nearest_neighbours import CosineRecommender
from rectools import Columns
from rectools.dataset import Dataset
from rectools.metrics import NDCG
from rectools.model_selection import LastNSplitter, cross_validate
from rectools.models import ImplicitItemKNNWrapperModel, PopularModel

events = pd.read_csv("events.csv").rename(columns={"rating": Columns.Weight, "timestamp": Columns.Datetime})
events[Columns.Datetime] = pd.to_datetime(events[Columns.Datetime], unit="s")
data = Dataset.construct(events)
knn = ImplicitItemKNNWrapperModel(CosineRecommender(K=100))
knn.fit(data)
print(knn.recommend(users=[1, 2, 3], dataset=data, k=10, filter_viewed=True))
models = {"popular": PopularModel(), "knn": knn}
found = cross_validate(data, LastNSplitter(n=1), {"ndcg@10": NDCG(10)}, models, k=10, filter_viewed=True)
print(pd.DataFrame(found["metrics"]))
"""
IMPLICIT = """\
import numpy as np
import pandas as pd
from implicit.evaluation import leave_k_out_split, ranking_metrics_at_k
from implicit.nearest_neighbours import CosineRecommender, TFIDFRecommender
from scipy.sparse import csr_matrix

events = pd.read_csv("events.csv")
users, user_ids = pd.factorize(events["user_id"])
items, item_ids = pd.factorize(events["item_id"])
matrix = csr_matrix((np.ones(len(events)), (users, items)))
model = CosineRecommender(K=100)
model.fit(matrix)
asked = user_ids.get_indexer([1, 2, 3])
found, scores = model.recommend(asked, matrix[asked], N=10)
print([list(item_ids[row]) for row in found])
train, test = leave_k_out_split(matrix, K=1, random_state=0)
for one in (TFIDFRecommender(K=100), CosineRecommender(K=100)):
    one.fit(train)
    print(ranking_metrics_at_k(one, train, test, K=10))
"""
RECBOLE = """\
import os

import pandas as pd
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils.case_study import full_sort_topk

kinds = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
events = pd.read_csv("events.csv").rename(columns=lambda name: f"{name}:{kinds[name]}")
os.makedirs("dataset/events", exist_ok=True)
events.to_csv("dataset/events/events.inter", sep="\\t", index=False)
settings = {
    "load_col": {"inter": list(kinds)},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
    "topk": [10],
    "metrics": ["NDCG"],
    "valid_metric": "NDCG@10",
}
for name in ("Pop", "ItemKNN"):
    print(name, run_recbole(model=name, dataset="events", config_dict=settings)["test_result"])
newest = max((f.path for f in os.scandir("saved") if "ItemKNN" in f.name), key=os.path.getmtime)
config, model, data, _, _, test = load_data_and_model(newest)
users = data.token2id("user_id", ["1", "2", "3"])
scores, found = full_sort_topk(users, model, test, k=10, device=config["device"])
print(data.id2token("item_id", found.cpu()))
"""


WATCH = """\
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
open("peak", "w").write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""  # a small process: a child's peak is never below that of whoever forked it


class Peer(NamedTuple):
    script: str
    packages: tuple[str, ...] = ()  # none: this interpreter's
    bare: tuple[str, ...] = ()  # without what they ask for
    environment: tuple[tuple[str, str], ...] = ()


PEERS = {
    "recray": Peer(RECRAY),
    "rectools": Peer(RECTOOLS, ("rectools==0.19.0", "implicit==0.7.3")),
    "implicit": Peer(IMPLICIT, ("implicit==0.7.3", "pandas<3")),
    "recbole": Peer(
        RECBOLE,
        (
            *("torch==2.13.0", "ray[tune]==2.60.0", "numpy<2", "pandas<2.3", "scipy<1.13", "pyarrow<22"),
            *("scikit-learn<1.6", "setuptools<81", "tensorboard", "pyyaml", "tqdm", "thop", "tabulate"),
            *("psutil", "texttable", "colorama==0.4.4"),
        ),
        ("recbole==1.2.1", "colorlog==4.7.2", "plotly"),  # it asks for ray<=2.6.3
        (("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1"),),  # it reads its own checkpoints by pickle
    ),
}


def interpreter(name: str, peer: Peer) -> Path:
    """The Python that has the peer; its environment is built where there is none."""
    if not peer.packages:
        return Path(sys.executable)
    folder = paths.home() / "peers" / f"minimal-{name}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run([*pip, *peer.packages], check=True, env=plain)
        if peer.bare:
            subprocess.run([*pip, "--no-deps", *peer.bare], check=True, env=plain)
        (folder / "ready").touch()
    return python


def measured(name: str, peer: Peer, folder: Path) -> dict[str, float]:
    """Runs the script; its output goes to ``<name>.out`` in the folder."""
    lines = [line for line in peer.script.splitlines() if line.strip()]
    (folder / f"{name}_script.py").write_text(peer.script)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        **dict(peer.environment),
    }
    command = [str(interpreter(name, peer)), f"{name}_script.py"]
    began = time.perf_counter()
    with (folder / f"{name}.out").open("w+") as out:
        watched = [sys.executable, "-ISc", WATCH, *command]
        process = subprocess.run(watched, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
    if process.returncode:
        raise SystemExit(
            f"{name} ended with {process.returncode}: {(folder / f'{name}.out').read_text()[-2000:]}"
        )
    return {
        "lines": len(lines),
        "imports": sum(line.startswith(("import ", "from ")) for line in lines),
        "seconds": round(time.perf_counter() - began, 2),
        "memory_mib": round(int((folder / "peak").read_text()) / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    chosen = parser.parse_args().peers
    folder = paths.home() / "minimal"
    folder.mkdir(parents=True, exist_ok=True)
    data = load_or_prepare("ml-100k")
    columns = {"user_id": data.users["raw_id"].gather(data.user_ids_N), "rating": data.ratings_N}
    columns |= {"item_id": data.items["raw_id"].gather(data.item_ids_N), "timestamp": data.timestamps_N}
    pl.DataFrame(columns).write_csv(folder / "events.csv")
    found = {name: measured(name, PEERS[name], folder) for name in chosen}
    for name, figures in found.items():
        print(f"{name:>10}: " + ", ".join(f"{value:g} {what}" for what, value in figures.items()))
    print(json.dumps({"benchmark": "minimal", "data": "ml-100k", "peers": found}))


if __name__ == "__main__":
    main()

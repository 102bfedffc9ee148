"""The whole loop on one data set: prepare, retrieve, rank, publish, serve, ask.

recray demo ml-100k
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import httpx
import tyro

from recray.bundles.promotion import promote
from recray.cli.jobs import run_on_data
from recray.cli.show import show_evaluation, show_gain, show_recommendations
from recray.data.events.split_data import DataConfig
from recray.eval.compare import Row
from recray.eval.two_stage import MeasuredStages
from recray.pipelines import demo
from recray.pipelines.compare import compare_models
from recray.serve.place.config import ServiceConfig
from recray.serve.place.session import serving
from recray.store import Store
from recray.train.context import LaunchConfig


@dataclass(frozen=True)
class Demo:
    dataset: Annotated[str, tyro.conf.arg(name="data.dataset")] = "synthetic"
    """A registered data set (`recray datasets`), or the path of a file."""
    launch: LaunchConfig = field(default_factory=lambda: LaunchConfig(workers=2))
    port: int = 8000
    """Where the application listens on this machine; 0 chooses a free port."""


def walk(job: Demo) -> None:
    store, launch = Store(), job.launch
    users, at = demo.some_users(job.dataset), demo.latest_time(job.dataset)  # data is looked at before Ray
    with serving(job.port) as session:  # one Ray for all that follows; stopped at the end
        # Retrieval: two towers on Ray Train, their vectors in a FAISS index, published as one version.
        retriever = demo.train_on("two_tower", job.dataset, launch, store)
        # Ranking: XGBoost on the retriever's candidates and point-in-time features.
        ranker = demo.train_on("gbdt_ranker", job.dataset, launch, store)
        # Promotion is what replicas follow; the ranker's version brings its retriever along.
        promote(store, ranker.bundle.manifest.name, ranker.bundle.manifest.version)
        url = session.start(ServiceConfig(application=ranker.bundle.manifest.name))
        question = {"k": 5, "explain": True, "request_time": at}
        for user in users:
            answer = httpx.post(f"{url}/recommend", json={**question, "user_id": user})
            show_recommendations(user, answer.raise_for_status().json())
    data = DataConfig(dataset=job.dataset, split=demo.SPLIT)
    others = compare_models(data, demo.baselines(job.dataset), seeds=1)
    assert isinstance(ranker.measured, MeasuredStages)
    first = Row("two_tower", 0, ranker.measured.retriever)
    both = Row("two_tower + xgboost", 0, ranker.measured.ranker)
    show_evaluation([*others, first, both])
    show_gain(both, first)
    print(f"published {retriever.bundle.reference} and {ranker.bundle.reference}; see `recray versions`")
    asked = shlex.quote(job.dataset)
    print(f"next: recray serve {asked}; recray evaluate {asked}; recray train sasrec {asked}; recray models")


def main(args: Sequence[str]) -> int:
    return run_on_data("demo", walk, Demo, __doc__, args)

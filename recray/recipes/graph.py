"""Graph attention: trained on sampled neighbourhoods, measured by ranking and by links.

``measure_parts`` measures any vector retriever on the same graph.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from recray.batch import EvalExamples, Jagged, QueryBatch
from recray.config import ConfigError
from recray.contract import Retriever, VectorRetriever
from recray.data.batches.neighbours import GraphBatches, WholeGraph, pairs_to_predict, require_one_layer
from recray.data.batches.pairs import PairBatches
from recray.data.events.examples import eval_examples, item_counts
from recray.eval.evaluate import Evaluation, evaluate
from recray.eval.links import Links, PairScores, auc_sum, draw_links
from recray.models.gat import GATConfig
from recray.recipes.retrieval import (
    DataConfig,
    Prepared,
    batch_size_for,
    evaluate_retriever,
    new_model,
    prepared,
    validation,
)
from recray.train.context import Context
from recray.train.loop import LoopConfig, Sums, fit
from recray.train.optim import OptimConfig

Part = Literal["train", "validation", "test"]
Parts = dict[str, dict[str, float]]  # metrics by name, of each part
PARTS: tuple[Part, ...] = ("train", "validation", "test")
TRAINING_USERS = 5000  # at most, whose training items are ranked


@dataclass(frozen=True, kw_only=True)
class GATRun:
    """Train a graph attention network on users and items."""

    data: DataConfig = field(default_factory=DataConfig)
    model: GATConfig = field(default_factory=GATConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    fanouts: tuple[int, ...] = (16,)
    """Neighbours of a node, at most, from the last layer (around the pairs) to the first."""
    newest: bool | None = None
    """A user hears its newest neighbours, in training and after; else any in training, and all after.
    None: as the split wants, which is True unless it is random."""
    causal: bool | None = None
    """The user of a training pair hears what came before it only; for one layer. None: as the split wants."""
    recency: float = 10.0
    """Newer interactions of a user count more: weight 0.1 + exp(-newer ones / recency); 0: all alike."""
    validation_users: int = 0
    """Users that validation ranks for, drawn once by the seed; 0: all of them."""
    seed: int = 0
    """Of the initial weights, the order of the data, the neighbours and dropout."""

    def __post_init__(self) -> None:
        if len(self.fanouts) != self.model.layers or min(self.fanouts) < 1:
            raise ConfigError(
                f"fanouts must be one number of at least 1 for each of model.layers {self.model.layers}, "
                f"got {self.fanouts}"
            )
        if self.settled(self.causal):
            require_one_layer(self.model.layers)
        if self.settled(self.newest) and len(set(self.fanouts)) > 1:
            raise ConfigError(
                f"newest needs the same fanout in every layer, got {self.fanouts}: users are served from as "
                "many of their newest neighbours in each; make them equal, or give newest False"
            )
        if self.validation_users < 0:
            raise ConfigError(f"validation_users must not be negative, got {self.validation_users}")

    def settled(self, choice: bool | None) -> bool:
        """``newest`` or ``causal``; None is whether the split has an order."""
        return self.data.split != "random" if choice is None else choice


def _preset(dataset: str, **changes: Any) -> GATRun:
    return GATRun(data=DataConfig(dataset=dataset), **changes)


_LARGE = LoopConfig(batch_size=8192, epochs=10, patience=2)
GAT_PRESETS: dict[str, tuple[str, GATRun]] = {
    "synthetic": ("generated data with a known truth; needs no download", _preset("synthetic")),
    "ml-100k": ("MovieLens 100K", _preset("ml-100k", loop=LoopConfig(epochs=30))),
    "ml-1m": ("MovieLens 1M", _preset("ml-1m", loop=LoopConfig(epochs=7, patience=2))),
    "custom": ("your own events: --data.dataset FILE", _preset("events.csv")),
    "ml-25m": ("MovieLens 25M", _preset("ml-25m", loop=_LARGE, validation_users=5000)),
    "amazon-beauty": ("Amazon Reviews 2014, Beauty", _preset("amazon-beauty")),
    "amazon-sports": ("Amazon Reviews 2014, Sports and Outdoors", _preset("amazon-sports")),
}


def train_gat(run: GATRun, context: Context) -> Retriever:
    """Trains on the pairs of the training part with their neighbours, validates on the validation part.

    Before each validation the vectors of all users and items are computed over the whole graph; they are
    in the checkpoint. Reported beside the ranking: ``link_auc`` of the validation part.
    """
    data = prepared(run.data)
    model = new_model(run, data.dataset)
    # PyTorch Geometric takes seconds to import, and whoever lists the presets does not need it.
    from recray.data.batches.graph import describe, neighbourhoods, user_item_graph

    graph = user_item_graph(data.dataset, data.split, seed=run.seed)
    edges = neighbourhoods(graph)
    batch_size = batch_size_for(run.loop, int(data.split.train_N.sum()))
    pairs = PairBatches(data.dataset, data.split.train_N, batch_size, run.seed, recency=run.recency)
    newest, causal = run.settled(run.newest), run.settled(run.causal)
    batches = GraphBatches(pairs, edges, fanouts=run.fanouts, newest=newest, causal=causal)
    whole = WholeGraph(edges, run.fanouts[0] if newest else 0)
    ranked = validation(data, context, users=run.validation_users, seed=run.seed)
    linked = link_validation(data, context)

    def validate(module: Any) -> Sums:
        module.refresh(whole)
        return {**ranked(module), **linked(module)}

    fit(
        model,
        batches,
        validate,
        config=run.loop,
        optim=run.optim,
        context=context,
        seed=run.seed,
        data=f"{data.dataset.name} {data.dataset.hash[:12]}, {describe(graph)}",
    )
    trained: Retriever = model
    return trained


def part_links(data: Prepared, part: Part) -> Links:
    """The pairs to predict in a part of the split, and as many that occur in no part.

    Raises:
        DataError: every held-out pair repeats one of training, or there is none.
    """
    dataset, split = data.dataset, data.split
    part_N = {"train": split.train_N, "validation": split.validation_N, "test": split.test_N}[part]
    pairs_2N = pairs_to_predict(dataset, split, part_N)
    observed_2N = np.stack([dataset.user_ids_N, dataset.item_ids_N])
    return draw_links(pairs_2N, observed_2N, dataset.num_users, dataset.num_items)


def link_validation(data: Prepared, context: Context) -> Callable[[nn.Module], Sums]:
    """This rank's share of ``link_auc``, of the validation part."""
    links = part_links(data, "validation")

    def validate(model: Any) -> Sums:
        score = _pair_scores(model, data, context.device)
        return {"link_auc": auc_sum(score, links, context.rank, context.world_size)}

    return validate


def link_metrics(model: VectorRetriever, data: Prepared) -> dict[Part, float]:
    """Link AUC of every part of the split, of any retriever whose vectors depend on the user's id."""
    score = _pair_scores(model, data, torch.device("cpu"))
    return {
        part: total / count for part in PARTS for total, count in [auc_sum(score, part_links(data, part))]
    }


def measure_parts(model: Any, data: Prepared, metrics: tuple[str, ...] = ("hit@10", "ndcg@10")) -> Parts:
    """``link_auc`` and metrics of the full ranking, of every part of the split.

    Training items are ranked among all items, held-out ones among those that the user has not seen.
    """
    rankings = {
        "train": training_ranking(model, data),
        "validation": evaluate_retriever(model, data, "validation"),
        "test": evaluate_retriever(model, data, "test"),
    }
    found: Parts = {}
    for part, link_auc in link_metrics(model, data).items():
        means = rankings[part].means()
        found[part] = {"link_auc": link_auc, **{name: means[name] for name in metrics}}
    return found


def training_ranking(model: Any, data: Prepared, ks: tuple[int, ...] = (10,)) -> Evaluation:
    """Full ranking of the training items of up to 5000 users, nothing filtered: what is remembered."""
    dataset, train_N = data.dataset, data.split.train_N
    _, card = eval_examples(dataset, data.split, "validation")
    users = np.unique(dataset.user_ids_N[train_N])
    if len(users) > TRAINING_USERS:
        users = np.sort(np.random.default_rng(0).choice(users, TRAINING_USERS, replace=False))
    mine_N = train_N & np.isin(dataset.user_ids_N, users)
    pairs = np.unique(dataset.user_ids_N[mine_N] * dataset.num_items + dataset.item_ids_N[mine_N])
    lengths_B = np.bincount(pairs // dataset.num_items, minlength=dataset.num_users)[users]
    offsets_B = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths_B)]))
    targets = Jagged(torch.from_numpy(pairs % dataset.num_items), offsets_B)
    examples = EvalExamples(QueryBatch.without_history(torch.from_numpy(users)), targets)
    card = replace(card, target="train", seen="kept", num_users=len(users))
    return evaluate(model.score_items, examples, card, item_counts(dataset, train_N), ks=ks)


def _pair_scores(model: Any, data: Prepared, device: torch.device) -> PairScores:
    """Inner products of the vectors of users, known by their ids alone, and items."""
    item_ID = model.item_vectors().cpu()
    user_ids_U = torch.arange(data.dataset.num_users)
    chunks = (user_ids_U[start : start + 8192] for start in range(0, len(user_ids_U), 8192))
    queries = (QueryBatch.without_history(ids_B).to(device) for ids_B in chunks)
    user_UD = torch.cat([model.query_vectors(part).cpu() for part in queries])

    def score(user_ids_N: Tensor, item_ids_N: Tensor) -> Tensor:
        scores_N: Tensor = (user_UD[user_ids_N] * item_ID[item_ids_N]).sum(dim=1)
        return scores_N

    return score

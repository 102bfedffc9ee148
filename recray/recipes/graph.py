"""Graph attention: trained on sampled neighbourhoods, measured by ranking and by links.

``measure_parts`` measures any vector retriever on the same graph.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from recray.batch import EvalExamples, Jagged, QueryBatch
from recray.config import ConfigError
from recray.contract import Retriever, VectorRetriever
from recray.data.batches.neighbours import (
    GraphBatches,
    Neighbourhoods,
    WholeGraph,
    pairs_to_predict,
    require_one_layer,
)
from recray.data.batches.pairs import PairBatches
from recray.data.events.examples import eval_examples, item_counts
from recray.data.events.split_data import DataConfig, SplitData, open_split
from recray.eval.evaluate import Evaluation, evaluate
from recray.eval.links import Links, PairScores, auc_sum, draw_links
from recray.models.gat import GAT, GATConfig
from recray.recipes.pairs import loop_for
from recray.recipes.retriever import GradientRecipe, GradientRun, evaluate_retriever
from recray.schema import DataError
from recray.train.context import Context
from recray.train.loop import LoopConfig, Sums

log = logging.getLogger(__name__)
Part = Literal["train", "validation", "test"]
Parts = dict[str, dict[str, float]]  # metrics by name, of each part
PARTS: tuple[Part, ...] = ("train", "validation", "test")
TRAINING_USERS = 5000  # at most, whose training items are ranked


@dataclass(frozen=True, kw_only=True)
class GATRun(GradientRun):
    """Train a graph attention network on users and items."""

    further_metrics = ("auc", "link_auc")
    model: GATConfig = field(default_factory=GATConfig)
    fanouts: tuple[int, ...] = (16,)
    """Neighbours of a node, at most, from the last layer (around the pairs) to the first."""
    newest: bool | None = None
    """A user hears its newest neighbours, in training and after; else any in training, and all after.
    None: whether what is held out comes later."""
    causal: bool | None = None
    """The user of a training pair hears what came before it only; for one layer. None: likewise."""
    recency: float = 10.0
    """Newer interactions of a user count more: weight 0.1 + exp(-newer ones / recency); 0: all alike. Off
    where what is held out does not come later."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.fanouts) != self.model.layers or min(self.fanouts) < 1:
            raise ConfigError(
                f"fanouts must be one number of at least 1 for each of model.layers {self.model.layers}, "
                f"got {self.fanouts}"
            )
        if self._may_hold(self.causal):
            require_one_layer(self.model.layers)
        if self._may_hold(self.newest) and len(set(self.fanouts)) > 1:
            raise ConfigError(
                f"newest needs the same fanout in every layer, got {self.fanouts}: users are served from as "
                "many of their newest neighbours in each; make them equal, or give newest False"
            )

    def _may_hold(self, choice: bool | None) -> bool:
        """Whether ``newest`` or ``causal`` will hold, or may: data without times have no order either."""
        return self.data.split != "random" if choice is None else choice


class GraphData(SplitData):
    """A split and, made when first asked for, the graph of its training part."""

    @cached_property
    def _made(self) -> tuple[Neighbourhoods, str]:
        # PyTorch Geometric takes seconds to import, and whoever restores a model does not need it.
        from recray.data.batches.graph import describe, neighbourhoods, user_item_graph

        graph = user_item_graph(self)
        return neighbourhoods(graph), describe(graph)

    @property
    def edges(self) -> Neighbourhoods:
        return self._made[0]

    @property
    def about_edges(self) -> str:
        """How many messages there are, for the notes of a run."""
        return self._made[1]


class GATRecipe(GradientRecipe[GATRun, GraphData]):
    """Pairs of the training part with their neighbours.

    Before each validation the vectors of all users and items are computed over the whole graph; they are
    in the checkpoint. Reported beside the ranking: ``link_auc`` of the validation part.
    """

    def open(self, run: GATRun) -> GraphData:
        data = open_split(run.data)
        return GraphData(data.dataset, data.split)

    def reads_side_features(self, run: GATRun) -> bool:
        return run.model.side_features

    def batches(self, run: GATRun, data: GraphData) -> GraphBatches:
        size = run.loop.batch_size_for(int(data.split.learnt_N.sum()))
        pairs = PairBatches(
            data.dataset,
            data.split.train_N,
            size,
            run.seed,
            recency=data.recency(run.recency),
            weights_N=data.weights_N,
        )
        newest, causal = _settled(run.newest, data), _settled(run.causal, data)
        return GraphBatches(pairs, data.edges, fanouts=run.fanouts, newest=newest, causal=causal)

    def identity(self, run: GATRun, data: GraphData) -> str:
        return f"{super().identity(run, data)}, {data.about_edges}"

    def validation(self, run: GATRun, data: GraphData, context: Context) -> Callable[[nn.Module], Sums]:
        whole = WholeGraph(data.edges, run.fanouts[0] if _settled(run.newest, data) else 0)
        measures = [super().validation(run, data, context)]
        if data.split.validation_N.any():
            measures.append(link_validation(data, context))

        def validate(model: nn.Module) -> Sums:
            assert isinstance(model, GAT)
            model.refresh(whole)
            return {name: total for measure in measures for name, total in measure(model).items()}

        return validate


def _settled(choice: bool | None, data: GraphData) -> bool:
    return data.split.in_time if choice is None else choice


def _preset(dataset: str, loop: LoopConfig = LoopConfig()) -> GATRun:  # noqa: B008 - frozen
    return GATRun(data=DataConfig(dataset=dataset), loop=loop)


GRAPH_ATTENTION = GATRecipe(
    "gat",
    {
        "synthetic": ("generated data with a known truth; needs no download", _preset("synthetic")),
        "ml-100k": ("MovieLens 100K", _preset("ml-100k", LoopConfig(epochs=30))),
        "ml-1m": ("MovieLens 1M", _preset("ml-1m", LoopConfig(epochs=7, patience=2))),
    },
    "graph attention over users and items (Brody et al. 2022)",
    sized=lambda size: GATRun(loop=loop_for(size), validation_users=size.validation_users),
)


def part_links(data: SplitData, part: Part) -> Links:
    """The pairs to predict in a part of the split, and as many that occur in no part.

    Raises:
        DataError: every held-out pair repeats one of training, or there is none.
    """
    dataset, split = data.dataset, data.split
    part_N = {"train": split.train_N, "validation": split.validation_N, "test": split.test_N}[part]
    pairs_2N = pairs_to_predict(dataset, split, part_N)
    observed_2N = np.stack([dataset.user_ids_N, dataset.item_ids_N])
    return draw_links(pairs_2N, observed_2N, dataset.num_users, dataset.num_items)


def link_validation(data: SplitData, context: Context) -> Callable[[nn.Module], Sums]:
    """This rank's share of ``link_auc``, of the validation part; none where training holds all its pairs, or
    (nearly) all pairs occur: lists can be measured there nevertheless."""
    try:
        links = part_links(data, "validation")
    except DataError as error:
        log.warning("link_auc is not measured: %s", error)
        return lambda _: {}

    def validate(model: nn.Module) -> Sums:
        assert isinstance(model, VectorRetriever)
        score = _pair_scores(model, data, context.device)
        return {"link_auc": auc_sum(score, links, context.rank, context.world_size)}

    return validate


def link_metrics(model: VectorRetriever, data: SplitData) -> dict[Part, float]:
    """Link AUC of every part of the split, of any retriever whose vectors depend on the user's id."""
    score = _pair_scores(model, data, torch.device("cpu"))
    return {
        part: total / count for part in PARTS for total, count in [auc_sum(score, part_links(data, part))]
    }


def measure_parts(
    model: VectorRetriever, data: SplitData, metrics: tuple[str, ...] = ("hit@10", "ndcg@10")
) -> Parts:
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


def training_ranking(model: Retriever, data: SplitData, ks: tuple[int, ...] = (10,)) -> Evaluation:
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


def _pair_scores(model: VectorRetriever, data: SplitData, device: torch.device) -> PairScores:
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

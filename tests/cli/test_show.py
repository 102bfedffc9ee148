"""What a person reads of what was measured."""

import numpy as np
import pytest

from recray.cli.show import show
from recray.eval.evaluate import Evaluation
from recray.eval.two_stage import MeasuredStages
from recray.schema import ProtocolCard

CARD = ProtocolCard(dataset="x", dataset_hash="x", split="x", target="test", relevance="all", k_core=0)

PER_USER = ("hit@10", "ndcg@10", "mrr@10", "novelty@10")


def found(mean: float) -> Evaluation:
    values_U = np.random.default_rng(0).normal(mean, 0.01, 50)
    return Evaluation(
        card=CARD,
        per_query=dict.fromkeys(PER_USER, values_U),
        scalars={"coverage@10": 0.5},
        user_ids_U=np.arange(50),
    )


def test_a_ranker_that_makes_it_worse_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for mean, is_said in ((0.2, True), (0.3, False), (0.4, False)):
        show(MeasuredStages(found(0.3), found(mean)), "ranker", 0)
        assert ("warning: the ranker makes the retriever's order worse" in capsys.readouterr().out) == is_said

"""Sequence models: one causal pass equals one query per prefix, time is read right, bad input is named."""

from typing import Any

import pytest
import torch
from torch import Tensor

from recray.batch import Jagged, QueryBatch, SequenceBatch
from recray.config import ConfigError
from recray.data.batches.negatives import Draws
from recray.models.gru4rec import GRU4Rec, GRU4RecConfig
from recray.models.hstu import HSTU, HSTUConfig
from recray.models.next_item import Events, NextItemLoss, NextItemModel
from recray.models.sasrec import SASRec, SASRecConfig
from recray.models.ss4rec import SS4Rec, SS4RecConfig
from recray.schema import DataError, FeatureSchema

ITEMS, DAY = 30, 86400
SCHEMA = FeatureSchema(num_users=4, num_items=ITEMS)
HISTORY = [[3, 8, 8, 1, 29, 4, 17], [5], [9, 2, 0]]
TIMES = [[0, 0, 60, 60, DAY, 40 * DAY, 40 * DAY], [7], [100, 200, 5000 * DAY]]
MODELS: dict[str, Any] = {
    "sasrec": lambda **k: SASRec(SASRecConfig(dim=16, hidden_dim=32, dropout=0.0, **k), SCHEMA),
    "gru4rec": lambda **k: GRU4Rec(
        GRU4RecConfig(dim=16, hidden_dim=24, num_layers=2, dropout=0.0, **k), SCHEMA
    ),
    "hstu": lambda **k: HSTU(HSTUConfig(dim=16, attention_dim=8, value_dim=8, dropout=0.0, **k), SCHEMA),
    "ss4rec": lambda **k: SS4Rec(
        SS4RecConfig(dim=16, channels=32, mamba_states=4, s5_states=8, num_blocks=2, dropout=0.0, **k), SCHEMA
    ),
}


@pytest.fixture(params=sorted(MODELS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def new(name: str, **settings: Any) -> NextItemModel:
    torch.manual_seed(1)
    model: NextItemModel = MODELS[name](**settings)
    torch.nn.init.normal_(model.items.all_rows())  # far from the small start: differences show
    return model.eval()


def query(rows: list[list[int]], times: list[list[int]], requests: list[int]) -> QueryBatch:
    times_N = torch.tensor([t for row in times for t in row], dtype=torch.int64)
    users_B = torch.arange(len(rows))
    return QueryBatch(users_B, Jagged.from_rows(rows), times_N, torch.tensor(requests))


def sequences(rows: list[list[int]], times: list[list[int]], first_target: list[int]) -> SequenceBatch:
    times_N = torch.tensor([t for row in times for t in row])
    return SequenceBatch(torch.arange(len(rows)), Jagged.from_rows(rows), times_N, torch.tensor(first_target))


def prefix_loss(
    model: NextItemModel, rows: list[list[int]], times: list[list[int]], first: list[int]
) -> Tensor:
    """A query per prefix, asked when the next event happened; cross-entropy written out."""
    losses = []
    for row, at, start in zip(rows, times, first, strict=True):
        for target in range(start, len(row)):
            [scores_I] = model.score_items(query([row[:target]], [at[:target]], [at[target]]))
            losses.append(scores_I.logsumexp(0) - scores_I[row[target]])
    return torch.stack(losses).mean()


def test_one_causal_pass_trains_every_prefix(name: str) -> None:
    model = new(name)
    rows, times = [HISTORY[0], HISTORY[2]], [TIMES[0], TIMES[2]]
    for first in ([1, 1], [4, 2]):
        found = model.loss(sequences(rows, times, first))["loss"]
        torch.testing.assert_close(found, prefix_loss(model, rows, times, first), rtol=1e-5, atol=1e-5)


def test_targets_count_as_much_as_they_weigh(name: str) -> None:
    model = new(name)
    rows, times, first = [HISTORY[0], HISTORY[2]], [TIMES[0], TIMES[2]], [5, 2]
    weights_N = torch.tensor([9, 9, 9, 9, 9, 2.5, 0, 9, 9, 0.5])  # the targets' add up to their number
    found = model.loss(sequences(rows, times, first)._replace(weights_N=weights_N))["loss"]
    alone = [
        prefix_loss(model, [row[: at + 1]], [when[: at + 1]], [at])
        for row, when, at in [(rows[0], times[0], 5), (rows[0], times[0], 6), (rows[1], times[1], 2)]
    ]
    torch.testing.assert_close(found, (2.5 * alone[0] + 0.5 * alone[2]) / 3, rtol=1e-5, atol=1e-5)


def test_nothing_after_the_request_can_change_a_score(name: str) -> None:
    model = new(name)
    items, waits_N = Jagged.from_rows(HISTORY), torch.rand(11) * DAY
    before_ND = model.encode(Events(items, waits_N))
    for position in range(len(HISTORY[0])):
        later_N = torch.arange(11) > position
        changed = Events(
            items._replace(values_N=torch.where(later_N, (items.values_N + 7) % ITEMS, items.values_N)),
            torch.where(later_N, waits_N + 3 * DAY, waits_N),
        )
        after_ND = model.encode(changed)
        assert torch.equal(before_ND[: position + 1], after_ND[: position + 1])
        assert not torch.equal(before_ND[7:], after_ND[7:])  # other rows did change: the probe is not blind


def test_the_wait_until_the_request_counts_only_where_the_model_reads_time() -> None:
    soon = query(HISTORY, TIMES, [40 * DAY + 1, 8, 5000 * DAY + 60])
    late = query(HISTORY, TIMES, [400 * DAY, 800 * DAY, 9000 * DAY])
    for name, changes in (("sasrec", False), ("gru4rec", False), ("hstu", True), ("ss4rec", True)):
        model = new(name)
        assert torch.equal(model.score_items(soon), model.score_items(late)) != changes
    for without in (new("ss4rec", interval="none"), new("hstu", time_bias=False)):
        assert torch.equal(without.score_items(soon), without.score_items(late))


def test_a_query_is_answered_from_its_latest_events(name: str) -> None:
    model = new(name, max_items=3)
    whole = model.score_items(query(HISTORY, TIMES, [41 * DAY, 9, 5001 * DAY]))
    last = model.score_items(
        query([r[-3:] for r in HISTORY], [t[-3:] for t in TIMES], [41 * DAY, 9, 5001 * DAY])
    )
    torch.testing.assert_close(whole, last)


def test_rows_of_any_order_and_empty_ones_get_their_own_answer(name: str) -> None:
    model = new(name)
    rows, times = [HISTORY[0], [], HISTORY[1], HISTORY[2]], [TIMES[0], [], TIMES[1], TIMES[2]]
    requests = [41 * DAY, 5, 9, 5001 * DAY]
    together = model.query_vectors(query(rows, times, requests))
    assert torch.equal(together[1], torch.zeros(16))
    for b, (row, at, request) in enumerate(zip(rows, times, requests, strict=True)):
        alone = model.query_vectors(query([row], [at], [request]))
        torch.testing.assert_close(together[b : b + 1], alone, rtol=1e-5, atol=1e-5)


def test_a_user_with_a_single_event_is_answered_from_it(name: str) -> None:
    scores_BI = new(name).score_items(query([[5]], [[7]], [7]))
    assert scores_BI.shape == (1, ITEMS)
    assert scores_BI.isfinite().all()


@pytest.mark.parametrize(
    ("row", "times", "request_time", "message"),
    [
        (
            [1, 2, 3],
            [10, 5, 20],
            30,
            r"query 1 \(user 1\), event 0: at 10, before it in time .* 5",
        ),
        ([1, 2], [10, 40], 30, r"query 1 \(user 1\), event 1: at 40, after the request at 30"),
        ([1, ITEMS], [10, 20], 30, rf"event 1: item {ITEMS} is not in the catalogue of {ITEMS}"),
        ([-1, 2], [10, 20], 30, r"event 0: item -1 is not in the catalogue"),
    ],
)
def test_bad_histories_are_named(
    name: str, row: list[int], times: list[int], request_time: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        new(name).query_vectors(query([[1], row], [[0], times], [5, request_time]))


@pytest.mark.parametrize(("kind", "steps"), [("cross_entropy", 120), ("sampled_softmax", 150), ("gbce", 500)])
def test_every_loss_learns_what_follows_what(name: str, kind: str, steps: int) -> None:
    """Items follow each other in a circle; after training the next one is on top."""
    torch.manual_seed(0)
    model = MODELS[name](loss=NextItemLoss(kind=kind, negatives=20))  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    starts = torch.arange(ITEMS)
    rows = [[(int(s) + n) % ITEMS for n in range(6)] for s in starts]
    batch = sequences(rows, [[60 * n for n in range(6)]] * ITEMS, [1] * ITEMS)
    draws = Draws(batch.items.values_N.numpy(), 20, 0.5 if kind == "sampled_softmax" else 0.0)
    for step in range(steps):
        optimizer.zero_grad()
        model.loss(batch._replace(negatives=draws((step,))))["loss"].backward()
        optimizer.step()
    found = model.eval().score_items(query([r[:4] for r in rows], [[0, 60, 120, 180]] * ITEMS, [240] * ITEMS))
    assert (found.argmax(1) == (starts + 4) % ITEMS).float().mean() > 0.9


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="negatives must be at least 1.*got 0"):
        NextItemLoss(negatives=0)
    with pytest.raises(ConfigError, match="max_items must be at least 1, got 64 and 0"):
        SASRec(SASRecConfig(max_items=0), SCHEMA)
    with pytest.raises(ConfigError, match="multiple of 2 x 3 heads, got 64"):
        SASRecConfig(num_heads=3)
    with pytest.raises(ConfigError, match="time_unit_s 0 above 0"):
        SS4RecConfig(time_unit_s=0)

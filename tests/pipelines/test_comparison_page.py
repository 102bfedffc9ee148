"""Who gains and who loses: parts of the users by hand, and the page that shows them."""

import numpy as np

from recray.api.comparison import Comparison
from recray.data.events.examples import eval_examples
from recray.data.events.split_data import SplitData
from recray.data.events.splits import leave_one_out
from recray.eval.compare import Row
from recray.eval.evaluate import Evaluation
from recray.pipelines.comparison_page import render
from recray.pipelines.segments import segments
from recray.schema import ProtocolCard
from tests.data.made import dataset_of

# User n has 3 + n events; everybody's last one is item 0, 1, 0, 1, ...
EVENTS = [(user, 2 + n, 10 * n) for user in range(8) for n in range(2 + user)]
LAST = [(user, user % 2, 1_000) for user in range(8)]


def split_of() -> SplitData:
    dataset = dataset_of(EVENTS + LAST)
    return SplitData(dataset, leave_one_out(dataset))


def test_users_are_in_quarters_by_what_is_known_of_them() -> None:
    data = split_of()
    asked_U = np.arange(8)
    by_history, by_item = segments(data.dataset, data.split, asked_U).values()
    assert [one.name for one in by_history] == ["2 to 3", "4 to 5", "6 to 7", "8 to 9"]
    assert [np.flatnonzero(one.user_U).tolist() for one in by_history] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [one.name for one in by_item] == ["0"]  # nobody had learnt the last ones
    assert by_item[0].user_U.all()
    part, *_ = segments(data.dataset, data.split, asked_U[[7, 0]]).values()
    assert [one.user_U.tolist() for one in part] in (
        [[False, True], [True, False]],
        [[True, False], [False, True]],
    )


def row(model: str, seed: int, values: list[float], card: ProtocolCard) -> Row:
    per_query = {"ndcg@10": np.array(values), "hit@10": np.ones(8), "novelty@10": np.full(8, 5.0)}
    found = Evaluation(card=card, per_query=per_query, scalars={"coverage@10": 0.5}, user_ids_U=np.arange(8))
    return Row(model, seed, found)


def test_the_page_says_for_whom() -> None:
    data = split_of()
    card = eval_examples(data.dataset, data.split, "test")[1]
    long = [1.0 if user >= 6 else 0.0 for user in range(8)]
    rows = [row("<old>", 0, [0.125] * 8, card), row("new", 0, long, card), row("new", 1, [0.0] * 8, card)]
    found = Comparison(tuple(rows), "ndcg@10")
    page = render(rows, found.differences, data, "ndcg@10")
    assert "<old>" not in page
    assert "&lt;old&gt;" in page
    line = "<td>8 to 9</td><td class=number>2</td><td class=number>0.1250</td><td class=number>0.5000</td>"
    other = "<td>8 to 9</td><td class=number>2</td><td class=number>0.5000</td><td class=number>0.1250</td>"
    assert line in page or other in page
    assert "its means are by chance" in page
    assert page.count("<svg") == 4
    alone = render(rows[:1], Comparison(tuple(rows[:1]), "ndcg@10").differences, data, "ndcg@10")
    assert "Differences" not in alone

"""Team-draft interleaving: against the paper's algorithm, and what must hold of every list."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recray.event_log.records import Event, Kind
from recray.monitor.sequential import Preference
from recray.serve.http.made import Made
from recray.serve.traffic.cases import InterleavedCase
from recray.serve.traffic.claims import Claim
from recray.serve.traffic.exposures import ArmAnswer
from recray.serve.traffic.interleaving import BASELINE, CANDIDATE, NOBODY, Credit, credit, team_draft
from recray.serve.traffic.router import _drawn
from recray.store import Reference
from recray.store.experiments import Arm, Experiment

items = st.lists(st.sampled_from([f"i{number}" for number in range(12)]), unique=True, max_size=12)


def slow_draft(a: list[str], b: list[str], k: int, rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """Algorithm 2, word by word, while both lists have something that is not in."""
    shown: list[str] = []
    teams: list[int] = []
    while (set(a) - set(shown)) and (set(b) - set(shown)) and len(shown) < k:
        sizes = teams.count(BASELINE), teams.count(CANDIDATE)
        candidates_turn = sizes[1] < sizes[0] or (sizes[0] == sizes[1] and rng.random() < 0.5)
        source = b if candidates_turn else a
        shown.append(next(item for item in source if item not in shown))
        teams.append(int(candidates_turn))
    return shown, teams


@given(items, items, st.integers(0, 12), st.integers(0, 10))
@settings(deadline=None)
def test_it_is_the_papers_algorithm_and_then_what_is_left(
    a: list[str], b: list[str], k: int, seed: int
) -> None:
    shown, teams = team_draft(a, b, k, np.random.default_rng(seed))
    slow, slow_teams = slow_draft(a, b, k, np.random.default_rng(seed))
    assert shown[: len(slow)] == slow
    assert teams == slow_teams + [NOBODY] * (len(shown) - len(slow))
    assert len(shown) == min(k, len({*a, *b}))
    assert len(set(shown)) == len(shown)
    sizes = [teams[:place].count(BASELINE) - teams[:place].count(CANDIDATE) for place in range(len(teams))]
    assert all(abs(size) <= 1 for size in sizes)
    for side, ranked in ((BASELINE, a), (CANDIDATE, b)):
        # Each side's picks stand in its own order, and nothing better of it is missing from the list.
        own = [ranked.index(item) for item, team in zip(shown, teams, strict=True) if team == side]
        assert all(x < y for x, y in pairwise(own))
        assert all(ranked[better] in shown for better in range(max(own, default=0)))


def test_it_depends_on_nothing_but_its_generator() -> None:
    a, b = [f"a{n}" for n in range(20)], [f"b{n}" for n in range(20)]
    first, again, other = (team_draft(a, b, 20, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("place", [0, 1, 5])
def test_clicks_at_random_prefer_nobody(place: int) -> None:
    """Wherever they fall: each team has a place as often as the other."""
    a, b = [f"i{n}" for n in range(6)], [f"i{n}" for n in (3, 0, 5, 1, 2, 4)]
    rng = np.random.default_rng(0)
    wins = sum(credit(team_draft(a, b, 6, rng).teams, [place]).candidate for _ in range(4000))
    assert abs(wins / 4000 - 0.5) < 4 * (0.25 / 4000) ** 0.5


def test_the_better_ranker_wins() -> None:
    liked = {"x", "y"}
    a, b = ["p", "q", "r", "x", "s", "y"], ["x", "p", "y", "q", "r", "s"]
    rng = np.random.default_rng(0)
    seen = Preference()
    for _ in range(200):
        shown, teams = team_draft(a, b, 4, rng)
        seen.add(*credit(teams, [place for place, item in enumerate(shown) if item in liked]))
    assert seen.bounds(0.05).lower > 0.5


def test_credit_counts_places_once_and_nobodys_never() -> None:
    assert credit([BASELINE, CANDIDATE, NOBODY, CANDIDATE], [0, 1, 1, 2, 3]) == Credit(
        candidate=2, baseline=1
    )


EXPERIMENT = Experiment(
    name="two",
    kind="interleaving",
    arms=tuple(
        Arm(name=name, reference=Reference(name="shop", version=version, digest=str(version)), share=0.5)
        for version, name in enumerate(("production", "candidate"), start=1)
    ),
    salt="salt",
)


def made(version: int, ids: str, pinned: str = "") -> Made:
    """A letter for each item."""
    answer: Any = {
        "items": [
            {"item_id": item, "score": 1.0, "source": "pinned" if item in pinned else "two_tower"}
            for item in ids
        ],
        "version": {"ranker": {"name": "shop", "version": version, "digest": ""}},
        "skipped": [],
        "timings_ms": {"total": 1.0},
    }
    return Made(answer)


def test_what_is_pinned_keeps_its_place_and_is_nobodys() -> None:
    both = [made(1, "PabQcd", "PQ"), made(2, "PxaQyz", "PQ")]
    for number in range(50):
        drawn = _drawn(EXPERIMENT, both, f"request-{number}")
        shown = [(item["item_id"], item["arm"]) for item in drawn.answer["items"]]
        assert (shown[0], shown[3]) == (("P", ""), ("Q", ""))
        teams = [arm for item, arm in shown if item not in "PQ"]
        assert sorted(teams) == ["candidate"] * 2 + ["production"] * 2
        assert len({item for item, _ in shown}) == len(shown) == 6


def test_what_only_one_list_has_pinned_stands_once() -> None:
    both = [made(1, "abcd"), made(2, "xPaQ", "PQ")]
    items = _drawn(EXPERIMENT, both, "request").answer["items"]
    assert (items[1]["item_id"], items[3]["item_id"]) == ("P", "Q")
    both = [made(1, "Pabc", "P"), made(2, "xyzP", "P")]
    items = _drawn(EXPERIMENT, both, "request").answer["items"]
    assert [item["item_id"] for item in items].index("P") == 0
    assert len({item["item_id"] for item in items}) == 4


def test_an_item_that_is_clicked_and_bought_is_one_that_was() -> None:
    case = InterleavedCase(EXPERIMENT)
    teams = ("production", "candidate", "candidate")
    shown = ArmAnswer("salt", "", "u", 0.0, 1.0, False, False, False, "r", ("a", "b", "c"), teams)
    happened: list[tuple[str, Kind]] = [("a", "click"), ("a", "purchase"), ("b", "click")]
    for item, kind in happened:
        case.happened(Claim(shown, Event("u", item, 1.0, 1.0, kind=kind, request_id="r")))
    assert case.numbers(1_000.0)["lists_with_a_winner"] == 0, "one item of each"

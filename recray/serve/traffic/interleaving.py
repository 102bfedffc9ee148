"""Two rankers in one list: team-draft interleaving, and whose items were clicked.

Radlinski, Kurup & Joachims, How Does Clickthrough Data Reflect Retrieval Quality?, CIKM 2008, algorithm 2. As
in a pick of teams, each side in turn puts in its best item that is not there yet; who begins a round is
drawn. A user who clicks at random clicks as often on either team, wherever clicks fall.
``monitor.sequential.Preference`` adds lists up.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

BASELINE, CANDIDATE, NOBODY = 0, 1, -1


class Interleaved(NamedTuple):
    """A list for one user."""

    items: list[str]
    teams: list[int]  # of each place: BASELINE or CANDIDATE, as who picked it; NOBODY: one had no items left


class Credit(NamedTuple):
    """Clicks on each team's items, in the order of ``Preference.add``."""

    candidate: int
    baseline: int


def team_draft(
    baseline: Sequence[str], candidate: Sequence[str], k: int, rng: np.random.Generator
) -> Interleaved:
    """The best k of two lists, interleaved.

    Args:
        baseline: item ids, best first, none twice; with at least k, as of the candidate, every place has a
        team. candidate: the same.
        k: places. Where both lists together have fewer items, so has the answer.
        rng: of this list alone, drawn from once for each pair of places.
    """
    sides, taken = (baseline, candidate), set[str]()
    items: list[str] = []
    teams: list[int] = []
    nexts, sizes = [0, 0], [0, 0]
    while len(items) < k:
        for side in (BASELINE, CANDIDATE):
            while nexts[side] < len(sides[side]) and sides[side][nexts[side]] in taken:
                nexts[side] += 1
        left = [side for side in (BASELINE, CANDIDATE) if nexts[side] < len(sides[side])]
        if not left:
            break
        if len(left) == 1:
            picks, team = left[0], NOBODY
        else:
            even = sizes[BASELINE] == sizes[CANDIDATE]
            picks = team = int(rng.random() < 0.5 if even else sizes[CANDIDATE] < sizes[BASELINE])
            sizes[team] += 1
        items.append(sides[picks][nexts[picks]])
        teams.append(team)
        taken.add(items[-1])
    return Interleaved(items, teams)


def credit(teams: Sequence[int], clicked: Collection[int]) -> Credit:
    """How many of the clicked places each team has; a place counts once, those of nobody not at all."""
    of = [teams[place] for place in set(clicked)]
    return Credit(candidate=of.count(CANDIDATE), baseline=of.count(BASELINE))

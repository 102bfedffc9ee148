"""What a hub is told again where it begins anew: all that the log of the application has of it."""

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from recray.event_log.reading import newest_events, read_facts
from recray.event_log.records import WANTED, Event, Fact
from recray.serve.events.told import Availability, Content, Told

CONCERNING = WANTED | {"dismissal"}
DAY_S = 86_400.0
MOST = 500_000  # events: so many more may come before a hub is full


def concerning_versions(told: Iterable[Told]) -> list[Told]:
    """Without what they make no use of."""
    return [one for one in told if not isinstance(one, Event) or one.kind in CONCERNING]


def facts_of(told: Iterable[Told], now: float) -> list[Fact]:
    """What is told of items, as a log keeps it: each column by itself, the last one counts."""
    facts: list[Fact] = []
    for one in told:
        if isinstance(one, Availability):
            facts.append(Fact(json.dumps([one.item_id]), now, json.dumps(one.available)))
        elif isinstance(one, Content):
            for column, value in one.values.items():
                facts.append(Fact(json.dumps([one.item_id, column]), now, json.dumps(value)))
    return facts


def recorded(folder: Path, keep_days: int = 0) -> list[Told]:
    """Items first; then events, oldest first.

    Args:
        keep_days: what an item is counts for so long after it was last told; 0: for good, as whether it can
            be had does.
    """
    facts = read_facts(folder)
    if keep_days:
        facts = _still_told(facts, time.time() - keep_days * DAY_S)
    return [*of_items(facts), *concerning_versions(newest_events(folder, MOST))]


def _still_told(facts: Sequence[Fact], since: float) -> list[Fact]:
    about = [json.loads(fact.key) for fact in facts]
    recent = {item for (item, *_), fact in zip(about, facts, strict=True) if fact.at >= since}
    return [fact for (item, *column), fact in zip(about, facts, strict=True) if not column or item in recent]


def of_items(facts: Sequence[Fact]) -> list[Told]:
    """What ``facts_of`` made facts of."""
    told: list[Told] = []
    for fact in facts:
        item_id, *column = json.loads(fact.key)
        value = json.loads(fact.body)
        told.append(Content(item_id, {column[0]: value}) if column else Availability(item_id, value))
    return told

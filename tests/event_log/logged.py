"""Answers and events as a server would hand them over."""

import numpy as np

from recray.event_log.records import Drawn, Event, Exposure
from recray.event_log.tables import Answer, encoded

AT = 1_700_000_000.0


def event(number: int, user_id: str | None = "ann", request_id: str | None = None) -> Event:
    at = AT + number
    return Event(user_id, f"item-{number % 7}", 1.0, at, f"e{number}", "click", request_id, at)


def exposure(number: int, user_id: str | None = "ann", *, features: bool = True) -> Exposure:
    items = tuple(Drawn(f"item-{place}", 1.0 / (1 + place), "two_tower", 0.5, "") for place in range(3))
    return Exposure(
        request_id=f"r{number}",
        at=AT + number,
        user_id=user_id,
        request_time=int(AT) + number,
        asked=3,
        items=items,
        version={"ranker": "shop-ranker@1 abc"},
        rules=("explore",),
        context={"device": "phone"},
        feature_names=("price", "age") if features else (),
        features_KF=np.array([[number, np.nan], [1, 2], [3, 4]], np.float32) if features else None,
    )


def answer(number: int, user_id: str | None = "ann", *, features: bool = True) -> Answer:
    return encoded(exposure(number, user_id, features=features))

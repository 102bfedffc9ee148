"""A few hundred events with titles and ages, as files: enough for every recipe to live its whole life."""

from pathlib import Path

import numpy as np

NUM_USERS, NUM_ITEMS, EVENTS_EACH = 60, 100, 9
GENRES = ("Drama", "Comedy")
WORDS = ("amber", "bridge", "cloud", "delta", "ember", "forest", "garden", "harbour", "island", "jungle")


def tiny_events(folder: Path, name: str = "tiny") -> Path:
    """Users in two tastes; what they like has four or five stars, and each of them tries one other item."""
    rng = np.random.default_rng(0)
    events = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for user in range(NUM_USERS):
        liked = 2 * rng.choice(NUM_ITEMS // 2, size=EVENTS_EACH, replace=False) + user % 2
        tried = 2 * int(rng.integers(NUM_ITEMS // 2)) + 1 - user % 2
        times = np.sort(rng.integers(1_600_000_000, 1_600_900_000, size=EVENTS_EACH + 1))
        stars = [*rng.integers(3, 6, size=EVENTS_EACH), 1]
        order = rng.permutation(EVENTS_EACH + 1)
        chosen = [(int([*liked, tried][place]), int(stars[place])) for place in order]
        events += [
            f"u{user}\ti{item}\t{star}\t{time}" for (item, star), time in zip(chosen, times, strict=True)
        ]
    items = ["item_id:token\tmovie_title:token_seq\tclass:token_seq"]
    titles = [" ".join(rng.choice(WORDS, size=4, replace=False)) for _ in range(NUM_ITEMS)]
    items += [f"i{n}\t{title}\t{GENRES[n % 2]}" for n, title in enumerate(titles)]
    users = ["user_id:token\tage:token", *(f"u{n}\t{20 + n % 4}" for n in range(NUM_USERS))]
    for suffix, lines in ((".inter", events), (".item", items), (".user", users)):
        (folder / f"{name}{suffix}").write_text("\n".join(lines) + "\n")
    return folder / f"{name}.inter"

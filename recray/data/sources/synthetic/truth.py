"""The planted truth of the synthetic data: who likes what, when, and the choices that follow from it.

A user opens a session with a taste (their own, drifted since they joined, plus a focus of the day) and
picks items one after the other without repeats, item i with probability proportional to exp(score_i):

    score_i = strength * <taste, item_i> + popularity_i + boost * exp(-(t - released_i) / boost_days)

so ranking the unseen items by this score is the best possible answer to "what comes next". Drawing is
by Gumbel noise and top-k, which is sampling without replacement (Plackett-Luce; Yellott 1977).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recray.arrays import Bools, Float32s, Int64s
from recray.config import ConfigError
from recray.data.sources.synthetic.words import GENRES, MOODS

DAY_S = 86_400
START_S = 1_640_995_200  # 2022-01-01 UTC
AGES = (16, 21, 30, 40, 50, 62)
GENDERS = ("F", "M")
OCCUPATIONS = ("artist", "clerk", "driver", "engineer", "farmer", "nurse", "student", "teacher")
_MIN_EVENTS = 6
_SESSION_PAUSE_S = 4 * 3600
_MAX_SESSION_EVENTS = 20


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Sizes and strengths. Equal configs give equal data, bit for bit on one machine."""

    num_users: int = 2_000
    num_items: int = 1_500
    events_per_user: float = 50.0  # mean; the spread is log-normal
    days: int = 730
    dim: int = 12  # of the planted factors
    taste_strength: float = 14.0  # 0: popularity decides alone
    popularity_exponent: float = 1.4  # Zipf: the r-th most popular item is drawn as r ** -exponent
    drift: float = 1.0  # how far tastes move between joining and the end; 0: not at all
    session_events: float = 6.0  # mean
    session_focus: float = 0.5  # size of the mood of a session beside the taste of norm 1
    new_items: float = 0.3  # share of items that are released within the time span
    novelty_boost: float = 2.5  # added to the score on the day of release
    novelty_days: float = 30.0  # in which the boost falls to 1/e
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.num_users, self.num_items, self.days, self.dim) < 1:
            raise ConfigError("num_users, num_items, days and dim must be at least 1")
        if self.num_items < 2 * _MAX_SESSION_EVENTS:
            raise ConfigError(f"num_items must be at least {2 * _MAX_SESSION_EVENTS}, got {self.num_items}")
        if self.events_per_user < _MIN_EVENTS or self.session_events < 1:
            raise ConfigError(f"events_per_user must be at least {_MIN_EVENTS}, session_events at least 1")


class Items(NamedTuple):
    factors_ID: Float32s  # norm 1
    genres_I2: Int64s  # rows of GENRES; the second is -1 where an item has one genre
    moods_I: Int64s  # rows of MOODS, the one nearest to the factors
    popularity_I: Float32s  # log of the Zipf weight
    released_I: Int64s  # unix seconds


class Users(NamedTuple):
    first_taste_UD: Float32s
    last_taste_UD: Float32s
    joined_U: Int64s  # unix seconds
    ages_U: Int64s
    genders_U: Int64s
    occupations_U: Int64s


class Sessions(NamedTuple):
    """By user and then by time."""

    user_ids_S: Int64s
    starts_S: Int64s  # unix seconds
    sizes_S: Int64s
    tastes_SD: Float32s  # norm 1


class Truth(NamedTuple):
    config: SyntheticConfig
    items: Items
    users: Users
    sessions: Sessions


class Events(NamedTuple):
    """In the order of sessions, within a session in the order of choice."""

    session_ids_N: Int64s
    item_ids_N: Int64s
    ratings_N: Float32s
    timestamps_N: Int64s


@lru_cache(maxsize=4)
def plant(config: SyntheticConfig) -> Truth:
    """Draws factors, attributes and sessions; the choices are drawn by ``draw_events``."""
    # A generator of its own for each part: changing one knob leaves the other parts as they were.
    seeds = np.random.SeedSequence(config.seed).spawn(3)
    genre_GD = _unit(np.random.default_rng(seeds[0]).normal(size=(len(GENRES), config.dim)))
    items = _plant_items(config, genre_GD, np.random.default_rng(seeds[0].spawn(1)[0]))
    users = _plant_users(config, genre_GD, np.random.default_rng(seeds[1]))
    return Truth(config, items, users, _plant_sessions(config, users, np.random.default_rng(seeds[2])))


def _plant_items(config: SyntheticConfig, genre_GD: Float32s, rng: np.random.Generator) -> Items:
    size = config.num_items
    genres_I2 = np.stack([rng.integers(len(GENRES), size=size), rng.integers(len(GENRES), size=size)], axis=1)
    single_I = (rng.random(size) < 0.4) | (genres_I2[:, 0] == genres_I2[:, 1])
    second_ID = np.where(single_I[:, None], 0, genre_GD[genres_I2[:, 1]])
    factors_ID = _unit(
        genre_GD[genres_I2[:, 0]] + second_ID + 0.6 * _unit(rng.normal(size=(size, config.dim)))
    )
    genres_I2[single_I, 1] = -1
    mood_MD = _unit(rng.normal(size=(len(MOODS), config.dim)))
    ranks_I = rng.permutation(size) + 1
    end_s = START_S + config.days * DAY_S
    inside_I = rng.integers(START_S, end_s, size=size)
    before_I = START_S - (rng.exponential(12 * 365, size=size) * DAY_S).astype(np.int64)
    return Items(
        factors_ID=factors_ID,
        genres_I2=genres_I2,
        moods_I=np.einsum("id,md->im", factors_ID, mood_MD).argmax(axis=1),
        popularity_I=(-config.popularity_exponent * np.log(ranks_I)).astype(np.float32),
        released_I=np.where(rng.random(size) < config.new_items, inside_I, before_I),
    )


def _plant_users(config: SyntheticConfig, genre_GD: Float32s, rng: np.random.Generator) -> Users:
    size = config.num_users
    ages_U = rng.integers(len(AGES), size=size)
    genders_U, occupations_U = (
        rng.integers(len(GENDERS), size=size),
        rng.integers(len(OCCUPATIONS), size=size),
    )
    # Demographics tell something about taste, far from all.
    groups = [_unit(rng.normal(size=(n, config.dim))) for n in (len(AGES), len(GENDERS), len(OCCUPATIONS))]
    demographic_UD = groups[0][ages_U] + groups[1][genders_U] + groups[2][occupations_U]

    def draw_taste() -> Float32s:
        liked_UG = rng.dirichlet(np.full(len(GENRES), 0.15), size=size).astype(np.float32)
        return _unit(
            _unit(np.einsum("ug,gd->ud", liked_UG, genre_GD))
            + 0.5 * _unit(rng.normal(size=(size, config.dim)))
        )

    first_UD = _unit(draw_taste() + 0.3 * demographic_UD)
    span_s = config.days * DAY_S
    return Users(
        first_taste_UD=first_UD,
        last_taste_UD=_unit(first_UD + config.drift * draw_taste()),
        joined_U=START_S + (span_s * 0.7 * rng.random(size) ** 1.5).astype(np.int64),
        ages_U=ages_U,
        genders_U=genders_U,
        occupations_U=occupations_U,
    )


def _plant_sessions(config: SyntheticConfig, users: Users, rng: np.random.Generator) -> Sessions:
    spread = 0.7
    totals_U = np.exp(
        rng.normal(np.log(config.events_per_user) - spread**2 / 2, spread, size=config.num_users)
    )
    totals_U = np.clip(totals_U, _MIN_EVENTS, config.num_items / 4)
    counts_U = np.maximum(np.rint(totals_U / config.session_events), 2).astype(np.int64)
    user_ids_S = np.repeat(np.arange(config.num_users), counts_U)
    sizes_S = np.minimum(
        1 + rng.poisson(config.session_events - 1, size=len(user_ids_S)), _MAX_SESSION_EVENTS
    )
    joined_S, end_s = users.joined_U[user_ids_S], START_S + config.days * DAY_S
    starts_S = joined_S + ((end_s - joined_S) * rng.random(len(user_ids_S))).astype(np.int64)
    starts_S = _spaced(starts_S[np.lexsort((starts_S, user_ids_S))], user_ids_S, counts_U)
    progress_S1 = ((starts_S - joined_S) / (end_s - joined_S)).astype(np.float32)[:, None]
    own_SD: Float32s = (1 - progress_S1) * users.first_taste_UD[user_ids_S]
    own_SD += progress_S1 * users.last_taste_UD[user_ids_S]
    focus_SD = _unit(rng.normal(size=own_SD.shape))
    return Sessions(user_ids_S, starts_S, sizes_S, _unit(_unit(own_SD) + config.session_focus * focus_SD))


def _spaced(starts_S: Int64s, user_ids_S: Int64s, counts_U: Int64s) -> Int64s:
    """Pushes sessions apart, so that one user's sessions never overlap."""
    turns_S = session_turns(user_ids_S, counts_U)
    slack_S = starts_S - turns_S * _SESSION_PAUSE_S
    # A running maximum per user: an offset per user that grows faster than any time keeps them apart.
    far = 1 << 36
    slack_S = np.maximum.accumulate(slack_S + user_ids_S * far) - user_ids_S * far
    return slack_S + turns_S * _SESSION_PAUSE_S


def session_turns(user_ids_S: Int64s, counts_U: Int64s) -> Int64s:
    """0 for each user's first session, 1 for the second..."""
    first_U = np.cumsum(counts_U) - counts_U
    return np.arange(len(user_ids_S)) - first_U[user_ids_S]


def session_scores(truth: Truth, sessions: Int64s) -> Float32s:
    """scores_SI of every item in these sessions; -inf before its release."""
    config, items = truth.config, truth.items
    age_SI = (truth.sessions.starts_S[sessions][:, None] - items.released_I).astype(np.float32) / DAY_S
    scores_SI = np.tile(items.popularity_I, (len(sessions), 1))
    # Factor by factor instead of a matrix product: the same bits for any number of BLAS threads.
    for d in range(config.dim):
        scores_SI += (config.taste_strength * truth.sessions.tastes_SD[sessions, d, None]) * items.factors_ID[
            :, d
        ]
    scores_SI += config.novelty_boost * np.exp(-np.maximum(age_SI, 0) / np.float32(config.novelty_days))
    scores_SI[age_SI < 0] = -np.inf
    return scores_SI


def draw_events(truth: Truth) -> Events:
    """Every session's choices: turn by turn over the users, so that nothing is chosen twice."""
    config, sessions = truth.config, truth.sessions
    counts_U = np.bincount(sessions.user_ids_S, minlength=config.num_users)
    turns_S = session_turns(sessions.user_ids_S, counts_U)
    rng = np.random.default_rng(np.random.SeedSequence(config.seed).spawn(4)[3])
    users_per_chunk = max(1, 20_000_000 // config.num_items)
    parts = []
    for low in range(0, config.num_users, users_per_chunk):
        seen_UI = np.zeros((min(users_per_chunk, config.num_users - low), config.num_items), dtype=bool)
        mine_S = (sessions.user_ids_S >= low) & (sessions.user_ids_S < low + users_per_chunk)
        for turn in range(int(turns_S[mine_S].max()) + 1):
            now = np.flatnonzero(mine_S & (turns_S == turn))
            parts.append(_draw_turn(truth, now, seen_UI, low, rng))
    session_ids_N, item_ids_N = (np.concatenate(column) for column in zip(*parts, strict=True))
    order_N = np.argsort(session_ids_N, kind="stable")
    return _with_ratings_and_times(truth, session_ids_N[order_N], item_ids_N[order_N], rng)


def _draw_turn(
    truth: Truth, now: Int64s, seen_UI: Bools, low: int, rng: np.random.Generator
) -> tuple[Int64s, Int64s]:
    rows = truth.sessions.user_ids_S[now] - low
    noisy_SI = session_scores(truth, now)
    noisy_SI += rng.gumbel(size=noisy_SI.shape)
    noisy_SI[seen_UI[rows]] = -np.inf
    most = int(truth.sessions.sizes_S[now].max())
    best_SK = np.argpartition(-noisy_SI, most - 1, axis=1)[:, :most]
    order_SK = np.argsort(-np.take_along_axis(noisy_SI, best_SK, axis=1), axis=1, kind="stable")
    best_SK = np.take_along_axis(best_SK, order_SK, axis=1)
    chosen_SK = np.arange(most) < truth.sessions.sizes_S[now][:, None]
    chosen_SK &= np.isfinite(np.take_along_axis(noisy_SI, best_SK, axis=1))
    session_index, column = np.nonzero(chosen_SK)
    item_ids = best_SK[session_index, column]
    seen_UI[rows[session_index], item_ids] = True
    return now[session_index], item_ids


def _with_ratings_and_times(
    truth: Truth, session_ids_N: Int64s, item_ids_N: Int64s, rng: np.random.Generator
) -> Events:
    size = len(session_ids_N)
    likes_N = (truth.sessions.tastes_SD[session_ids_N] * truth.items.factors_ID[item_ids_N]).sum(axis=1)
    user_bias_U = rng.normal(0, 0.4, size=truth.config.num_users)
    surprise_N = (likes_N - likes_N.mean()) / max(float(likes_N.std()), 1e-6)
    raw_N = (
        3.6
        + 0.8 * surprise_N
        + user_bias_U[truth.sessions.user_ids_S[session_ids_N]]
        + rng.normal(0, 0.5, size)
    )
    # Pauses between choices; a fifth of them round to the same second, as in real logs.
    pauses_N = np.minimum(rng.exponential(45, size=size), 600).astype(np.int64) * (rng.random(size) > 0.2)
    first_N = np.r_[True, session_ids_N[1:] != session_ids_N[:-1]]
    pauses_N[first_N] = 0
    passed_N = np.cumsum(pauses_N)
    offsets_N = passed_N - np.maximum.accumulate(np.where(first_N, passed_N, 0))
    return Events(
        session_ids_N=session_ids_N,
        item_ids_N=item_ids_N,
        ratings_N=np.clip(np.rint(raw_N), 1, 5).astype(np.float32),
        timestamps_N=truth.sessions.starts_S[session_ids_N] + offsets_N,
    )


def _unit(rows_ND: npt.NDArray[Any]) -> Float32s:
    norms_N1 = np.linalg.norm(rows_ND, axis=-1, keepdims=True)
    unit_ND: Float32s = (rows_ND / np.maximum(norms_N1, 1e-12)).astype(np.float32)
    return unit_ND

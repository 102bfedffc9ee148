# %% [markdown]
# # Serving: the model meets people
#
# A trained model is a file. What is served is a promise: an answer in milliseconds, for everybody, today,
# also when something breaks, and a better one next week without anybody noticing the change. This notebook
# is about what stands around the model for that.
#
# **What we assume.** You have read [your shop](01_your_shop.py); better also [evaluation](07_evaluation.py).
# Nothing is started here: the store (the folder of versions) and the stages of an answer (retrieve, filter,
# rank) are the same in this process as in a server, and where people are needed they are simulated, in a few
# lines that you can change.

# %%
import os
import tempfile
import zlib

import numpy as np
import polars as pl

home = tempfile.TemporaryDirectory(prefix="recray-")
os.environ["RECRAY_HOME"] = home.name

import recray
from recray.monitor.drift import compare
from recray.monitor.sequential import RateRatio
from recray.monitor.sketch import Rows, Sketch, watched_numbers
from recray.pages.palette import BLUE, GREEN, GREY, ORANGE
from recray.pages.plots import Picture
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline
from recray.serve.versions import open_served
from recray.store import Store, StoreError

data = recray.load("synthetic")

# %% [markdown]
# ## Versions and names
#
# `publish` writes a folder with a number and a digest of every file, and never touches it again. Names
# point at numbers: servers follow `production`. So "which model answered on Tuesday" has an answer, and
# going back is moving a pointer.

# %%
store, name = Store(), "synthetic-item_knn"
recray.fit("item_knn", data).publish(to_production=True)
recray.fit("item_knn", data, model__num_neighbors=3).publish()
store.names(name), [one.version for one in store.versions(name)]

# %% [markdown]
# Somebody promotes version 2. It is worse; somebody else goes back.

# %%
store.promote(name, 2, by="ada", why="three neighbours are enough")
store.rollback(name, by="ben", why="lists of regulars look random")
for move in store.history(name):
    print(move.action, move.name, "->", move.version, "by", move.by, ":", move.why)

# %% [markdown]
# Who, when and why stand in one journal, and names follow from it: there is no second truth. And what was
# rolled back does not come back by accident, not even by a script that runs at night:

# %%
try:
    store.promote(name, 2, by="cron")
except StoreError as error:
    print(error)

# %% [markdown]
# Servers look at the journal once a second, load what `production` points at *beside* what serves, try it,
# and swap it in one assignment. A version that cannot be loaded leaves the old one serving, and `/health`
# says so.
#
# ## An answer
#
# What a server does with `POST /recommend`, without the server:

# %%
pipeline = Pipeline(open_served(store, name, 1))
user = data.users["raw_id"][0]
answer = pipeline.recommend(RecommendRequest(user_id=user, k=2, request_time=pipeline.known_until))
answer

# %% [markdown]
# Read it line by line; each is there because somebody once needed it. `version` and `request_id`: so that a
# complaint can be traced. `fallback`: whether this is an answer to *this* user. `skipped`: which stage was
# left out, and why (late, failed). `age_s`: how old the newest known event is. `timings_ms`: where the time
# went.
#
# The same over HTTP:
#
# ```bash
# recray serve --application synthetic-item_knn
# curl localhost:8000/recommend -H 'content-type: application/json' -d '{"user_id": "1", "k": 2}'
# curl localhost:8000/health
# ```
#
# ## A new version, seen by nobody: the shadow
#
# The new version is asked what everybody asks, and its answers are thrown away. One learns whether it is
# fast, whether it fails, and how different it is:

# %%
users = data.users["raw_id"].head(150)
tops = [recray.open(f"{name}:{version}").recommend(users, k=10) for version in (1, 2)]
both = tops[0].join(tops[1], on=["user", "item"], how="inner").group_by("user").len()["len"]
overlap = np.concatenate([both.to_numpy(), np.zeros(len(users) - len(both), np.int64)])


def overlaps(axes):
    axes.hist(overlap, bins=np.arange(12) - 0.5, color=BLUE, rwidth=0.9)
    axes.set_xlabel("items that both lists have, of ten")
    axes.set_ylabel("users")


Picture(overlaps, "Shadow: how different would the lists be?")

# %% [markdown]
# ```bash
# recray shadow synthetic-item_knn 2
# ```
#
# What it does not tell: whether people like it. Nobody saw it.
#
# ## Seen by a few: the canary
#
# Miners took a bird along. A **canary** is the new version for 1 % of users, then 5, 10, 25, 50; a fresh
# copy of the old one, the *baseline*, serves as many others; what the two groups do decides.
#
# First, who is in it. A coin for each request would show one person both versions. So a user's place
# follows from a hash:


# %%
def place(user_id, salt="canary-2"):
    return zlib.crc32(f"{salt}:{user_id}".encode()) / 2**32


early, late = ({u for u in users if place(u) < share} for share in (0.05, 0.25))
print(len(early), len(late), early <= late)

# %% [markdown]
# The same user has the same version in every replica (process that answers) and after every restart, and
# those of the 5 % are among the 25 %.
#
# Now three canaries: one that is equal, one with a fifth fewer clicks, one that is better. The evidence is an
# e-process, so it may be looked at as often as one likes ([notebook 07](07_evaluation.py)). Where evidence
# *against* a canary passes 20, it is rolled back; where evidence *for* it does, it is kept:

# %%
coins = np.random.default_rng(5)
rate, most = 0.2, 6_000


def evidence(factor, *, above):
    """How strongly users say that the canary is clicked more (or less) than the baseline, after each 50."""
    ratio, line = RateRatio(), []
    for number in range(most):
        is_canary = bool(coins.random() < 0.5)
        if coins.random() < rate * (factor if is_canary else 1.0):
            ratio.add(0.5, is_canary)
        if number % 50 == 49:
            line.append(np.exp(min(ratio.log_e(above=above), 12)))
    return line


asked = np.arange(50, most + 1, 50)
worse = {"equal": evidence(1.0, above=False), "a fifth fewer clicks": evidence(0.8, above=False)}
better = evidence(1.2, above=True)


def canaries(axes):
    for (label, line), color in zip(worse.items(), (GREY, ORANGE), strict=True):
        axes.plot(asked, line, color=color, label=f"{label}: against it")
    axes.plot(asked, better, color=GREEN, label="a fifth more: for it")
    axes.axhline(20, color=GREY, linewidth=0.8)
    axes.set_yscale("log")
    axes.set_yticks([0.01, 0.1, 1, 20, 1000], ["0.01", "0.1", "1", "20", "1,000"])
    axes.set_yticks([], minor=True)
    axes.legend(loc="upper left")
    axes.set_xlabel("users")
    axes.set_ylabel("evidence")


Picture(canaries, "20 is reached by chance in one of twenty tests, however often one looks")

# %% [markdown]
# ```bash
# recray canary synthetic-item_knn 2 --ramp '2% 10m:20% 1h:50%'
# recray traffic synthetic-item_knn
# ```
#
# The ramp reads: 2 % of users at once, 20 % after ten minutes, half after an hour. (Without it, the five
# steps from above within two hours.) The second line shows both arms, canary and baseline, and the verdict.
#
# Errors, empty lists and slowness are watched in the same way, and sooner seen. And one guard stands before
# all others: if far more users are in one arm than the hash should give (**sample ratio mismatch**), no
# number can be trusted, and the canary stays where it is until somebody looks.
#
# ## The world moves: drift
#
# Nobody changes the model, and it gets worse: prices rise, a school year begins, a supplier sends empty
# texts. **Drift** is that what comes in is not like what the model learnt. One compares a window of today
# with the version's first week, feature by feature.
#
# **Pitfall.** The usual rule of thumb, "PSI above 0.1 is drift". PSI cuts both into the same bins and adds up
# how far their shares differ; 0 is alike. Here a price that does *not* drift, in windows of different sizes,
# a hundred of each:

# %%
prices = np.random.default_rng(6)


def psi(reference, window, bins=20):
    edges = np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1])
    a, b = (
        np.bincount(np.searchsorted(edges, x), minlength=bins) / len(x) + 1e-4 for x in (reference, window)
    )
    return float(((b - a) * np.log(b / a)).sum())


week = prices.lognormal(3, 0.6, 20_000)
sizes = (200, 1_000, 10_000)
calm = {size: [psi(week, prices.lognormal(3, 0.6, size)) for _ in range(100)] for size in sizes}
pl.DataFrame(
    [(size, float(np.median(found)), np.mean(np.array(found) > 0.1)) for size, found in calm.items()],
    schema=["rows in the window", "median PSI without drift", "share that alarms at 0.1"],
    orient="row",
)

# %% [markdown]
# On small windows the rule alarms every other time, so people switch it off; on large ones it is deaf. The
# threshold must follow from the window: *what would this number be if nothing had moved?* That is found by
# drawing again and again from the data at hand, whole users, since the rows of one user resemble each other.
# The house's test (`ks`: the largest distance between two distributions), on 400 users with five rows each:
# as before, and with prices 15 % and 40 % up:


# %%
def stretch(factor, at, seed):
    rng = np.random.default_rng(seed)
    shoppers = np.repeat(np.arange(400), 5)
    habit = rng.normal(0, 0.4, 400)[shoppers]  # who buys dear things does so again
    price = np.exp(3 + habit + rng.normal(0, 0.4, len(shoppers))) * factor
    return Rows(
        at_N=np.full(len(shoppers), float(at)),
        users=pl.Series([f"u{seed}-{n}" for n in shoppers]),
        answers=pl.Series([f"a{seed}-{n}" for n in range(len(shoppers))]),
        columns=pl.DataFrame({"price": price}),
    )


first_week = stretch(1.0, 1_700_000_000, 1)
watched = [watched_numbers("price", "feature", first_week.columns["price"])]
reference = Sketch.empty(watched, slots=1)
reference.add(first_week)
for label, factor, seed in (("as before", 1.0, 2), ("15 % dearer", 1.15, 3), ("40 % dearer", 1.4, 4)):
    window = Sketch.empty(watched, slots=1)
    window.add(stretch(factor, 1_700_600_000, seed))
    strongest = min(compare(reference, window, chance=0.005).found, key=lambda one: one.p_value)
    raised = "ALARM" if strongest.statistic > strongest.threshold else "calm"
    compared = f"{strongest.test} {strongest.statistic:.3f}, threshold {strongest.threshold:.3f}"
    print(f"{label:12} {raised}: {compared}, p {strongest.p_value:.4f}")

# %% [markdown]
# An alarm is a reason to look, and often to train again (`recray retrain --when-drift`); it does not say
# that lists are worse. That only people say.
#
# ## The model moves the world: the feedback loop
#
# What is shown is clicked; what is clicked is learnt; what was learnt is shown. Twenty items that are *all
# equally good*, a list of five places, and a ranker that sorts by clicks so far:


# %%
def play(explore, *, by_look, days=60, seed=0):
    """Clicks of each item in the end; each day 100 people see five places, the first one most."""
    rng = np.random.default_rng(seed)
    clicks, looks = np.ones(20), np.full(20, 10.0)
    examined = np.array([1, 0.6, 0.4, 0.3, 0.2])
    for _ in range(days):
        order = np.argsort(-(clicks / looks if by_look else clicks) + rng.random(20) * 1e-6)
        for _ in range(100):
            shown = order[:5] if rng.random() >= explore else rng.permutation(20)[:5]
            looks[shown] += examined
            clicks[shown] += rng.random(5) < 0.1 * examined
    return np.sort(clicks)[::-1]


alone, exploring = play(0.0, by_look=False), play(0.3, by_look=True)


def loops(axes):
    axes.plot(range(1, 21), alone, color=ORANGE, marker="o", markersize=3, label="most clicked first")
    axes.plot(range(1, 21), exploring, color=BLUE, marker="o", markersize=3, label="drawn and weighed")
    axes.legend(loc="upper right")
    axes.set_xticks([1, 5, 10, 15, 20])
    axes.set_xlabel("items, the most clicked first (all are equally good)")
    axes.set_ylabel("clicks after 60 days")


Picture(loops, "Five lucky items, fifteen that nobody saw")

# %% [markdown]
# Whoever looks at the orange log concludes that five items are loved and fifteen are not. The log is of
# what was *shown*. Three things help, and each needs that lists are written down *before* they are clicked:
#
# - **Explore**: draw some lists by chance, and write the chance of each draw beside it (`propensity`). Then
#   the log can be weighed (a click on what was seldom drawn counts for more), and even says what another
#   version would have earned ([off-policy](../off_policy.md)).
# - *Position*: the first place is looked at most. What was clicked there was partly clicked for that.
#   Chance draws tell how much ([feedback](../feedback.md)).
# - *Learn from lists*: "shown and not clicked" is a weak no; "never shown" is no no at all.
#
# The blue line does both of the first: three lists in ten are drawn, and clicks are divided by how often an
# item was probably looked at. Every item has had its chance. Draws cost clicks today; how much to explore
# is a price that one sets.
#
# ## The round
#
# Log, data, train, gates, canary, production, log; a **gate** is what a version must pass before anybody is
# shown it. Here for an application `shop-ranker`, a line in a shell of its own each: one serves and draws
# some lists by chance, one trains each day on what was logged, one looks for drift each hour. A round stops
# where something speaks against the new version, and says what:
#
# ```bash
# recray serve --application shop-ranker --service.rules.explore.policy plackett_luce
# recray retrain shop-ranker --then canary --every 1d
# recray drift shop-ranker --every 1h
# ```
#
# [operations](operations.md) says what to do on which day.
#
# ## Three questions
#
# **1. Version 7 was rolled back on Monday. On Tuesday the nightly job trains the same code on the same
# data. What happens?**
#
# It is a new version with a number and a digest of its own, so nothing refuses it by name. It goes the way
# of all: gates, then a canary, which will say again what Monday's said. Whoever knows the cause should
# rather mend it, or stop the job, before users are asked a second time.
#
# **2. Why is a canary compared with a fresh copy of the old version, and not with production?**
#
# Because it should differ in one thing only. Production is warm, serves ten times the traffic and has other
# users. A copy that began at the same moment, for as many users, has the canary's circumstances.
#
# **3. Clicks fell by 10 % over a month, and no drift alarm was raised. Where do you look?**
#
# At what people do rather than at what comes in: by version and arm (`recray business`), whether the clock
# or the log stands still (`age_s`), whether serving and training compute the same features (`recray
# replay`), and whether the loop has narrowed what is shown (coverage). Inputs may stay alike while what
# people want from them changes.

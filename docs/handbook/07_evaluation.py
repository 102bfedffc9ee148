# %% [markdown]
# # Evaluation, and its traps
#
# A recommender's number is easy to make and easy to make wrong, and a wrong one is never too low. This
# notebook walks into the known traps on purpose, each with two numbers side by side: the one that looks
# good, and the one that is true.
#
# **What we assume.** You have read [data](02_data.py) and [retrieval](03_retrieval.py). Generated data; the
# models are cheap ones, because the traps are the same for all.

# %%
import os
import tempfile
from dataclasses import replace

import numpy as np
import polars as pl
import torch

home = tempfile.TemporaryDirectory(prefix="recray-")
os.environ["RECRAY_HOME"] = home.name

import recray
from recray.bundles.weights import load_model
from recray.config import ConfigError
from recray.data.events.examples import eval_examples, item_counts
from recray.data.events.split_data import DataConfig, open_split
from recray.eval.bootstrap import intervals
from recray.eval.evaluate import evaluate
from recray.eval.protocol import require_same_card
from recray.monitor.sequential import RateRatio
from recray.pages.palette import BLUE, GREEN, GREY, ORANGE
from recray.pages.plots import Picture

data = recray.load("synthetic")
MODELS = ["popularity", "item_knn", "ease"]


def means(comparison, metric):
    return comparison.metrics.filter(metric=metric)["mean"].to_list()


# %% [markdown]
# ## The two metrics
#
# The model ranks all items that the user does not have. **Hit@10**: is anything that the user then took
# among the first ten? **NDCG@10**: how far up? A hit at place *p* is worth `1 / log2(p + 1)`:


# %%
def gain(axes):
    place = np.arange(1, 16)
    axes.bar(place, np.where(place <= 10, 1 / np.log2(place + 1), 0), color=BLUE)
    axes.set_xlabel("place")
    axes.set_ylabel("worth")


Picture(gain, "NDCG@10: what a hit at a place is worth")

# %% [markdown]
# Where several items are to be found their worths are added up, and NDCG divides by the best sum that was
# possible, so that 1 is perfect. Both are means over users: a user with a thousand events counts as much as
# one with five.
#
# ## Trap 1: a split that leaks time
#
# The same three models, measured on a random split and on one by time.

# %%
by_chance = recray.compare(MODELS, data, split="random")
by_time = recray.compare(MODELS, data, split="global-time")
pl.DataFrame(
    {
        "model": MODELS,
        "ndcg@10, random": means(by_chance, "ndcg@10"),
        "ndcg@10, by time": means(by_time, "ndcg@10"),
    }
)

# %% [markdown]
# On the random split a model is asked to fill gaps in a history whose end it knows. Nobody will ever ask it
# that. Which column is *higher* depends on the data (here the questions differ too: other users, other
# numbers of items to find); only the right one is about the question that production asks.
#
# Worse than a number that is off is one that decides wrongly. By how much is the best model better than
# popularity, in each world?

# %%
pl.DataFrame(
    {
        "model": MODELS,
        "times popularity, random": [x / means(by_chance, "ndcg@10")[0] for x in means(by_chance, "ndcg@10")],
        "times popularity, by time": [x / means(by_time, "ndcg@10")[0] for x in means(by_time, "ndcg@10")],
    }
)

# %% [markdown]
# ## Trap 2: numbers that may not be compared
#
# Put the two side by side in one table and somebody will subtract them. In this house every metric travels
# with a **protocol card**: data and its hash, split, what counts as found, whether seen items are removed,
# how many users. These are the two cards:

# %%
for field, value in vars(by_chance.card).items():
    print(f"{field:13} {value!s:40.38} {getattr(by_time.card, field)!s:.38}")

# %% [markdown]
# Two numbers under different cards are not compared; it is refused:

# %%
try:
    require_same_card(by_chance.card, by_time.card)
except ConfigError as error:
    print(error)

# %% [markdown]
# Most "improvements" between papers die of this sentence. When you read a number, ask for its card first.
#
# ## Trap 3: what the user already has
#
# Recommenders like to recommend what a user took before: it is the surest guess. Where people do not buy a
# thing twice that is a wasted place. So seen items are removed, and then it matters that this is done *in
# the measurement too*:

# %%
kept = recray.compare(MODELS, data, split="global-time", seen="keep")
pl.DataFrame(
    {"model": MODELS, "seen removed": means(by_time, "ndcg@10"), "seen kept": means(kept, "ndcg@10")}
)

# %% [markdown]
# Nobody here takes anything twice, so every place given to a seen item is lost. With seen items kept the
# two good models look no better than popularity: they spend their places on what is most like a history,
# which is the history. In a shop with coffee it is the other way round: there, removing what was bought
# removes the right answer. Measure as you serve.
#
# ## Trap 4: sampled metrics
#
# Ranking all items is slow, so papers draw a hundred items that the user did not take, and rank the right
# one among these. Same models, same users, same scores:

# %%
opened = open_split(DataConfig(dataset="synthetic", split="leave-one-out"))
examples, card = eval_examples(opened.dataset, opened.split, "test")
counts = item_counts(opened.dataset, opened.split.train_N)


def scores_of(name, **settings):
    fitted = recray.fit(name, data, refit=False, **settings)
    return load_model(fitted.bundle).score_items


def among_hundred(score_items):
    """The targets and a hundred items drawn for each query; all others are never found."""
    drawn = np.random.default_rng(0)

    def scored(queries):
        scores = score_items(queries)
        open_to = torch.zeros_like(scores, dtype=torch.bool)
        rows = torch.arange(len(scores)).repeat_interleave(100)
        open_to[rows, torch.from_numpy(drawn.integers(scores.shape[1], size=len(rows)))] = True
        rows_of = [int(np.flatnonzero(examples.queries.user_ids_B == user)[0]) for user in queries.user_ids_B]
        open_to[torch.arange(len(scores)), torch.stack([examples.targets.row(row)[0] for row in rows_of])] = (
            True
        )
        return scores.masked_fill(~open_to, -torch.inf)

    return scored


few = {
    "item_knn, 100 neighbours": ("item_knn", {}),
    "item_knn, 5 neighbours": ("item_knn", {"model__num_neighbors": 5}),
}
few["popularity"] = ("popularity", {})
lines = []
for name, (model, settings) in few.items():
    score = scores_of(model, **settings)
    full = evaluate(score, examples, card, counts).means()
    sampled = evaluate(among_hundred(score), examples, replace(card, candidates="100 drawn"), counts).means()
    lines.append((name, full["hit@10"], sampled["hit@10"]))
pl.DataFrame(lines, schema=["model", "hit@10 among all items", "hit@10 among 100 drawn"], orient="row")

# %% [markdown]
# The right column is several times as high and says less. Among a hundred random items nearly all are
# obscure, so "is it popular?" answers almost every question; what a model must be good at in life, telling
# the right item from its hundred nearest, is hardly asked. Differences shrink, and with other models the
# order turns round (Krichene & Rendle, KDD 2020). So the house ranks in full; where users are too many it
# draws *users*, which only widens the interval.
#
# ## Trap 5: everybody gets the same
#
# A mean does not see *what* is recommended. Beside accuracy stand **coverage** (how much of the catalogue is
# in anybody's list), **novelty** (how surprising the items are: the rarer, the higher) and popularity bias
# (0: as popular as what people take; 1: twice that). None has a best value; ask whether a gain of NDCG was
# paid for in them:

# %%
by_time.metrics.filter(
    pl.col("metric").is_in(["ndcg@10", "coverage@10", "novelty@10", "popularity_bias@10"])
).pivot("metric", index="model", values="mean")

# %% [markdown]
# ## Trap 6: how sure is it?
#
# The test users are a sample. Other users of the same kind would have given another number. The interval
# says how different: it is found by drawing the same number of users again and again from those we have
# (the **bootstrap**). Watch it as more users are asked:

# %%
per_user = by_time.rows[1].evaluation.per_query["ndcg@10"]
shuffled = np.random.default_rng(0).permutation(per_user)
sizes = [s for s in (25, 50, 100, 200, 400, 800) if s <= len(shuffled)]
found = [intervals(shuffled[:size, None])[0] for size in sizes]


def narrowing(axes):
    place = np.arange(len(sizes))
    axes.fill_between(place, [one.low for one in found], [one.high for one in found], color=BLUE, alpha=0.2)
    axes.plot(place, [one.mean for one in found], color=BLUE, marker="o", markersize=3)
    axes.set_xticks(place, [str(size) for size in sizes])
    axes.set_xlabel("users who were asked")
    axes.set_ylabel("ndcg@10 of item_knn")


Picture(narrowing, "Half as wide for four times as many users")

# %% [markdown]
# Two more sources of chance stand beside users: the **seed** of a training (train three times;
# `compare(..., seeds=3)`), and the period that the test happens to be. The first two are in the tables, the
# third only time can tell.
#
# Two models are compared by the **paired** difference: the same user under both. What makes a user easy
# cancels, so the difference is surer than either mean. Its **p-value** says how often chance alone makes a
# difference as large; below 0.05 is called significant. Of twenty comparisons without any difference one is
# that by chance, so with many pairs p-values are corrected (Holm's way).
#
# ## Trap 7: tuning on the test
#
# Fifty models that are equally good by construction: popularity, to which each adds noise of its own, drawn
# anew for every user and item. Choose the best by 300 users, and look at all others.

# %%
base = torch.from_numpy(np.log1p(counts).astype(np.float32))
chosen_on, checked_on = [], []
for model in range(50):
    noise = torch.Generator().manual_seed(model)

    def noisy(queries, noise=noise):
        return base + 0.35 * torch.randn(len(queries.user_ids_B), len(base), generator=noise)

    found = evaluate(noisy, examples, card, counts).per_query["hit@10"]
    chosen_on.append(found[:300].mean())
    checked_on.append(found[300:].mean())
best = int(np.argmax(chosen_on))
print(f"all fifty, on average:                     {np.mean(chosen_on):.4f}")
print(f"the best, on the users it was chosen by:   {chosen_on[best]:.4f}")
print(f"the same one, on the other users:          {checked_on[best]:.4f}")


# %%
def winners_curse(axes):
    axes.scatter(chosen_on, checked_on, s=12, color=GREY)
    axes.scatter([chosen_on[best]], [checked_on[best]], s=40, color=ORANGE, label="the winner")
    axes.legend(loc="upper left")
    axes.set_xlabel("hit@10, users it was chosen by")
    axes.set_ylabel("the other users")


Picture(winners_curse, "The winner's number is partly luck")

# %% [markdown]
# The winner's own number is the best of fifty draws, so it is too high; how much too high grows with how
# many were tried. Therefore three parts: *learn* on training, *choose* on validation, *report* on test,
# once. Whoever looks at the test twice has begun to tune on it.
#
# ## Trap 8: peeking
#
# The same trap in time. An A/B test runs: users are dealt to two groups, the **arms**, each with a version of
# its own. Somebody looks each morning and stops when p < 0.05. Two arms that are *equal*, 400 times, twenty
# looks each:

# %%
coins = np.random.default_rng(2)
looks, users_a_look, rate = 20, 500, 0.1
alarm_p, alarm_e = np.zeros(looks), np.zeros(looks)
for _ in range(400):
    clicks = coins.binomial(users_a_look, rate, size=(looks, 2)).cumsum(axis=0)
    n = users_a_look * np.arange(1, looks + 1)
    shares = clicks / n[:, None]
    pooled = clicks.sum(axis=1) / (2 * n)
    z = (shares[:, 1] - shares[:, 0]) / np.sqrt(2 * pooled * (1 - pooled) / n)
    alarm_p += np.maximum.accumulate(np.abs(z) > 1.96)
    evidence = [RateRatio(counts={(0.5, 1.0): clicks[look].tolist()}) for look in range(looks)]
    strong = [max(one.log_e(above=True), one.log_e(above=False)) > np.log(2 / 0.05) for one in evidence]
    alarm_e += np.maximum.accumulate(strong)


def peeking(axes):
    axes.plot(range(1, looks + 1), alarm_p / 400, color=ORANGE, label="p < 0.05 at any look")
    axes.plot(range(1, looks + 1), alarm_e / 400, color=GREEN, label="e-process at 5 %")
    axes.axhline(0.05, color=GREY, linewidth=0.8)
    axes.legend(loc="upper left")
    axes.set_xticks([1, 5, 10, 15, 20])
    axes.set_xlabel("looks so far")
    axes.set_ylabel("equal arms called different")


Picture(peeking, "A p-value is for one look")

# %%
print(f"false alarms of p-values, looked at each day: {alarm_p[-1] / 400:.0%}")
print(f"of the e-process: {alarm_e[-1] / 400:.1%}")

# %% [markdown]
# A p-value of 5 % is right for *one* look that was planned. An **e-process** may be looked at after every
# user. It is a number that begins at 1 and grows with the evidence that the arms differ; where they do not,
# it reaches 20 in at most one of twenty tests, however often one looks. Its price is that it needs somewhat
# more users. Canaries (notebook 08) are judged by such ([traffic](../traffic.md)).
#
# ## Three questions
#
# **1. A paper's SASRec has NDCG@10 of 0.59 on a data set on which yours has 0.17. What is the first thing
# to compare?**
#
# The cards, not the models: full ranking or a hundred drawn items, which split, how users with few events
# were treated. Sampled candidates alone make such a difference.
#
# **2. Model A is better than B on validation by 0.002, with the interval [-0.001, 0.005]. Ship A?**
#
# It is not shown to be better. If it costs nothing, you may; write down that it is a guess. If it costs
# anything (latency, code, a graphics card), no.
#
# **3. The offline number went up by 10 % and the A/B test shows nothing. Name two causes that are not
# bugs.**
#
# Offline asks about what people took when they were shown *other* lists; what the new model would have
# shown, nobody could take. And users are fewer than one thinks: there may have been too few to tell a small
# effect from chance. Notebook 08 goes on from here.

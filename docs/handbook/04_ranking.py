# %% [markdown]
# # Ranking: the order of a few hundred
#
# Retrieval handed on some hundred candidates. Now there is time to look at each *together with* the user:
# how long ago did she take something of this genre, is it dearer than what she buys, does everybody want it
# this week? Such numbers are called **features**, and what orders candidates by them a **ranker**.
#
# **What we assume.** You have read [the one on retrieval](03_retrieval.py). Same data, same cut by time.

# %%
import os
import tempfile

import numpy as np
import polars as pl
import torch

home = tempfile.TemporaryDirectory(prefix="recray-")
os.environ["RECRAY_HOME"] = home.name

import recray
from recray.data.events.examples import eval_examples, item_counts
from recray.data.events.split_data import DataConfig, open_split
from recray.eval.evaluate import evaluate
from recray.features.ranking import describe
from recray.pages.palette import BLUE, GREY, ORANGE
from recray.pages.plots import Picture, dated
from recray.serve.http.requests import RecommendRequest
from recray.serve.place.pipeline import Pipeline
from recray.serve.versions import open_served
from recray.store import Store

data = recray.load("synthetic")
split = open_split(DataConfig(dataset="synthetic", split="global-time")).split

# %% [markdown]
# ## The first stage stands still
#
# Retrieval is the first stage, ranking the second. A ranker is trained for *one* retriever: it must see in
# training the kind of candidates that it will get. So the retriever is published first, and stays as it is.

# %%
retriever = recray.fit("item_knn", data, data__split="global-time").publish()
retriever.reference

# %% [markdown]
# ## What it learns from
#
# For each of many past moments: take the candidates that the retriever would have handed on then, compute
# each candidate's features *as they were then*, and say which one the user took. A row is (user, moment,
# item), the label (what is to be learnt) is "taken" or not. Some dozens of boosted trees (small trees of
# yes-no questions, each of which mends what those before it got wrong), or a small network, learn to put the
# taken ones first (`rank:ndcg`: mistakes at the top cost more).
#
# Two things to hold. The rows must be events that the *retriever* did not learn, or it would look better in
# training than it is; here they come from the validation part. (What serves was trained again on everything,
# but a version keeps the model that was measured beside it, and that one is asked here.) And no feature may
# know what came later. That second one deserves its own section.
#
# ## A feature has a moment
#
# "Taken in the last 30 days" is a different number on every day. Here is one item, and the number that a
# careless join gives to all its rows: the column as it stands in today's table.

# %%
prepared, month = data.prepared, 30 * 86_400
times = prepared.timestamps_N
boundary, end = int(times[split.test_N].min()), int(times.max())


def taken(start, stop):
    """How often each item was taken, from one moment up to another."""
    return item_counts(prepared, (times >= start) & (times < stop))


item = int(np.argmax(taken(end - month, end + 1)))
moments = np.arange(times.min() + month, end, 3 * 86_400)
as_it_was = [taken(moment - month, moment)[item] for moment in moments]


def point_in_time(axes):
    days = dated(axes.xaxis, moments.astype(float))
    axes.plot(days, as_it_was, color=BLUE, label="strictly before the moment")
    axes.axhline(taken(end - month, end + 1)[item], color=ORANGE, label="in today's table")
    axes.legend(loc="upper left")
    axes.set_ylabel("taken in the last 30 days")


Picture(point_in_time, "One feature, two definitions")

# %% [markdown]
# Whoever trains with the orange line trains with the future: the number is large *because* people went on
# to take the item. How large is the harm? Let the simplest ranker there is, "most often taken of late
# first", use each line, and measure both on the same questions.

# %%
examples, card = eval_examples(prepared, split, "test")
known = item_counts(prepared, split.train_N | split.validation_N)


def by_counts(counts):
    scores = torch.from_numpy(counts.astype(np.float32))
    found = evaluate(lambda queries: scores.expand(len(queries.user_ids_B), -1), examples, card, known)
    return found.means()


honest, leaking = by_counts(taken(boundary - month, boundary)), by_counts(taken(end - month, end + 1))
pl.DataFrame(
    [(name, honest[name], leaking[name]) for name in ("hit@10", "ndcg@10")],
    schema=["metric", "of the 30 days before the question", "of today's table"],
    orient="row",
)

# %% [markdown]
# The right column is no better model. It is the same one with the answers in its pocket, and in production,
# where there is no future to count, it is the left column. Trees are better at finding such a pocket than
# people: give them one leaking feature among fifty, and they will use it and little else. This is
# **leakage** again, and its usual sign is an **offline** number (one of past events, without asking people)
# that is too good.
#
# The house's way is that nobody joins tables: a feature is a function of what is known strictly before a
# moment, defined once, called with the same code in training and in serving. What there is:

# %%
table = [line.strip("| ").split(" | ") for line in describe().splitlines()]
features = pl.DataFrame(table[2:], schema=["feature", "group", "unit", "meaning"], orient="row")
features.group_by("group", maintain_order=True).agg(
    pl.len(), pl.col("feature").first().alias("such as"), pl.col("meaning").first()
)

# %% [markdown]
# ## Train it
#
# Trees come first because they take features as they are, of any scale and with gaps, and say what they
# went by.

# %%
ranker = recray.fit(
    "gbdt_ranker",
    data,
    data__split="global-time",
    retriever="synthetic-item_knn",
    model__rounds=60,
    refit=False,
).publish()
table = recray.compare([retriever, ranker], data, split="global-time")
table

# %%
gain = table.metrics.filter(metric="ndcg@10")


def both(axes):
    middle, low, high = (gain[name].to_numpy() for name in ("mean", "low", "high"))
    names = ["retrieval alone", "with the ranker"]
    axes.set_position((0.26, 0.17, 0.7, 0.79))
    axes.barh(names, middle, xerr=[middle - low, high - middle], color=[GREY, BLUE], ecolor=GREY)
    axes.set_xlabel("ndcg@10, with its 95 % interval over users")


Picture(both, "The same candidates, in a better order")

# %% [markdown]
# ## Why this item?
#
# Ask with `explain`: each item says which features moved its score, up (+) or down (-), and by how much. What
# a feature means stands in `describe()` of above. (This is what a server answers to
# `{"user_id": ..., "explain": true}`.)

# %%
pipeline = Pipeline(open_served(Store(), "synthetic-ranker", ranker.bundle.manifest.version))
someone = data.users["raw_id"][int(examples.queries.user_ids_B[0])]
answer = pipeline.recommend(
    RecommendRequest(user_id=someone, k=5, explain=True, request_time=pipeline.known_until)
)
pl.DataFrame(
    [
        (
            place["title"],
            place["score"],
            ", ".join(f"{w['feature']} {w['contribution']:+.2f}" for w in place["why"]),
        )
        for place in answer["items"]
    ],
    schema=["title", "score", "what moved it most"],
    orient="row",
)

# %%
weight: dict[str, float] = {}
for user in data.users["raw_id"].sample(40, seed=0):
    asked = RecommendRequest(user_id=user, k=5, explain=True, request_time=pipeline.known_until)
    for place in pipeline.recommend(asked)["items"]:
        for reason in place.get("why", []):
            weight[reason["feature"]] = weight.get(reason["feature"], 0) + abs(reason["contribution"])
top = sorted(weight.items(), key=lambda one: one[1])[-10:]


def importance(axes):
    axes.set_position((0.42, 0.17, 0.55, 0.79))
    axes.barh([name for name, _ in top], [value / 200 for _, value in top], color=BLUE)
    axes.set_xlabel("mean size of its contribution")


Picture(importance, "What the ranker goes by")

# %% [markdown]
# Two uses. A list that looks odd can be asked for its reasons. And a feature that is surprisingly strong
# should be looked at *before* one is glad: is it strong because it is good, or because it leaks?
#
# ## Pitfall: what a ranker was never shown
#
# It learnt from candidates that had events. A new item has none, its counts are zero or missing, and in
# training whatever had zero was never taken: so it goes to the bottom, whatever it says of itself. The
# house has measured this and not yet solved it ("New items by what they say" in the [log of negative
# results](../LOG.md)). If new items matter to you, give them places by a rule (`fresh`) and measure that.
#
# ## Three questions
#
# **1. Offline the new feature lifts NDCG by a third; in production nothing changes. First suspicion?**
#
# Leakage: the feature knows something offline that it cannot know in production. Compute it for yesterday
# with yesterday's data only, and compare with what training had. `recray replay` does this for every logged
# feature ([skew](../skew.md)).
#
# **2. Why must the ranker's rows be events that the retriever did not learn?**
#
# A retriever gives high scores to pairs that it has learnt. On these its score predicts the label almost
# alone, so the ranker learns to trust it. On new pairs it deserves less trust.
#
# **3. You replace the retriever by a better one. May the ranker stay?**
#
# No. Its features contain the retriever's scores and ranks, and its candidates have changed. A version
# names the retriever it was trained with, by digest (a hash of its files), and both are switched at once.

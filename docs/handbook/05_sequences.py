# %% [markdown]
# # Sequences: what comes next
#
# So far a user was a set: what they took, in no order. But the second season follows the first, a charger
# follows a phone, and what you did five minutes ago says more than what you did last year. A **sequence
# model** reads a history from left to right and answers what comes next, as a language model does with
# words.
#
# **What we assume.** You have read [the one on retrieval](03_retrieval.py). The data is made
# here, so that we know what order is worth.

# %%
import os
import tempfile

import numpy as np
import polars as pl

home = tempfile.TemporaryDirectory(prefix="recray-")
os.environ["RECRAY_HOME"] = home.name

import recray
from recray.pages.palette import BLUE, GREY, INK, ORANGE
from recray.pages.plots import Picture

# %% [markdown]
# ## A world with order
#
# 240 videos; after each, four others are "up next". 600 people follow one of the four nine times of ten,
# and else jump anywhere. What comes next depends on the video that one has *just* seen, and on nothing
# before it.

# %%
rng = np.random.default_rng(3)
videos = 240
up_next = np.array([rng.choice(videos, 4, replace=False) for _ in range(videos)])
rows = []
for viewer in range(600):
    at, now, seen = 1_700_000_000 + int(rng.integers(0, 30 * 86_400)), int(rng.integers(videos)), []
    for _ in range(int(rng.integers(12, 28))):
        seen.append(now)
        at += int(rng.exponential(43_200)) + 60
        rows.append((f"v{viewer}", f"video-{now:03}", at))
        offered = [video for video in up_next[now] if video not in seen]
        anything = [video for video in range(videos) if video not in seen]
        now = int(rng.choice(offered if offered and rng.random() < 0.9 else anything))
events = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
watched = recray.load(events, name="watched")
watched

# %% [markdown]
# ## What neighbours make of it
#
# `item_knn` knows which videos the same people saw. After a history of fifteen it has fifteen times four
# good guesses, and no idea which of the fifteen was last.
#
# There is a cheap trick. If the newest events count most (**recency**), the votes come from what one is
# watching *now*. Still a *bag*, a heap without order, but one of the last few things. (Below, `model.recency`
# 1.0: the last event but one counts less than half of the last, and old ones a tenth.)
#
# ## What a sequence model is
#
# **SASRec** is a transformer, the network of language models, a small one. Each event of a history becomes a
# vector (the item's, and its place in the line). **Attention** lets each place look at those before it and
# take from them what helps; "before" is enforced by a mask, or it would read the answer. What stands at the
# last place is then multiplied with all item vectors, as in retrieval.
#
# One pass over a history trains every place of it at once: after the first event guess the second, after
# two the third, and so on.

# %%
small = {"model.dim": 32, "model.hidden_dim": 64, "model.num_layers": 1, "model.dropout": 0.1}
sasrec = recray.fit("sasrec", watched, refit=False, **small, **{"loop.epochs": 30})
of_late = ("item_knn", {"model.recency": 1.0})
table = recray.compare(["popularity", "item_knn", of_late, sasrec], watched, metric="hit@10")
table


# %%
def bars(axes):
    found = table.metrics.filter(metric="hit@10")
    axes.set_position((0.36, 0.17, 0.6, 0.79))
    middle, low, high = (found[name].to_numpy() for name in ("mean", "low", "high"))
    names = ["popularity", "neighbours", "neighbours by recency", "sasrec"]
    axes.barh(names, middle, xerr=[middle - low, high - middle], color=[GREY, GREY, ORANGE, BLUE], ecolor=INK)
    axes.set_xlabel("hit@10, with its 95 % interval over viewers")


Picture(bars, "What order is worth, where there is order")

# %% [markdown]
# Two things to take along. Order is worth a great deal here, and most of it is had by the trick, in a
# second. The transformer is better still, for it has learnt *which* of the newest things matters: here,
# exactly one.
#
# ## Ask it
#
# The same three videos in two orders. A bag cannot tell these apart.

# %%
ahead = events["item"].head(3).to_list()
back = ahead[::-1]
sasrec.recommend({"ahead": ahead, "back": back}, k=4).select("user", "place", "item", "score")

# %%
bag = recray.fit("item_knn", watched)
lists = [bag.recommend({"x": history}, k=4)["item"].to_list() for history in (ahead, back)]
print("up next after the last one:", [f"video-{video:03}" for video in up_next[int(ahead[-1][-3:])]])
print("neighbours, ahead:", lists[0])
print("neighbours, back: ", lists[1])

# %% [markdown]
# ## Pitfall: order that is none
#
# Is it the order that helps, or is a transformer simply a stronger model? Test it: give every viewer the
# same videos *in a shuffled order*, and train again. What is left is what the model reaches on a set.
# (Always ask so when somebody shows a sequence model: "and with shuffled histories?")

# %%
mixed = events.with_columns(item=pl.col("item").shuffle(seed=1).over("user"))
shuffled = recray.load(mixed, name="shuffled")
again = ("sasrec", {**small, "loop.epochs": 30})
without = recray.compare(["item_knn", again], shuffled, metric="hit@10")


def hits(comparison, name):
    return comparison.metrics.filter(pl.col("model").str.starts_with(name), metric="hit@10")["mean"][0]


pl.DataFrame(
    [(name, hits(table, name), hits(without, name)) for name in ("item_knn", "sasrec")],
    schema=["model", "in order", "shuffled"],
    orient="row",
)

# %% [markdown]
# On sets the transformer is the *worse* of the two: it looks for an order, finds none, and has learnt less
# about what goes together. (Neighbours gain by the shuffling, because any video of a path may now be the
# hidden one, and those in the middle have two known neighbours.)
#
# In many published data sets the "order" is worth less than it seems: MovieLens users rate a hundred films
# in one sitting, in the order of a web page. On your own data the two columns tell.
#
# ## Pitfall: times that are ties
#
# A shop that keeps only the *day* of a purchase has no order within a day, and a reader must put equal
# times in *some* order. If that order is by item id, the model learns item ids. The house keeps the order
# of the file, and its leak check says where ties look sorted.
#
# ## Which one?
#
# `sasrec` is the one to begin with. `gru4rec` is older and cheaper to serve event by event; `hstu` and
# `ss4rec` also read *how long ago* each thing was, so the same history gets other answers a minute and a
# month later. What each reached on public data stands in [which model when](which_model.md); in short: on
# ml-1m (a million film ratings) they are ahead of all that forgets order, and on ml-100k (a hundred thousand)
# a linear model (`ease`, learnt votes of items for items) with recency cannot be told from them.
#
# ## Three questions
#
# **1. What does the mask in attention prevent, and what would training look like without it?**
#
# That a place looks at what comes after it. Without it the loss (the error that training makes small) would
# fall to nearly nothing at once, since the answer stands one place to the right, and the model would be
# useless: leakage once more.
#
# **2. `item_knn` by recency came most of the way to the transformer. What does that tell you?**
#
# That much of what order gives is "what is one doing now". It is a number to beat, made in a second. If the
# transformer is not surely better on your data, serve the cheap one.
#
# **3. A new viewer watches two videos. Must the model be trained again to use that?**
#
# No. It knows no viewers, only histories: the two are read when the request comes. A model that has learnt a
# vector for each user by name (a two-tower) has to wait for the next training, or falls back to what
# resembles the two.

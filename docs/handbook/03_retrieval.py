# %% [markdown]
# # Retrieval: a few hundred out of millions
#
# A catalogue has a thousand or a hundred million items, an answer has ten, and there are fifty
# milliseconds. Nobody can look at every item with care in that time. So recommenders work in two steps,
# like hiring: **retrieval** reads all applications quickly and keeps a few hundred; **ranking** ([next
# notebook](04_ranking.py)) interviews those.
#
# **What we assume.** You have read [the one on data](02_data.py). The data is generated, and cut by time:
# what is asked about comes after what was learnt.

# %%
import os
import tempfile
import time

import numpy as np
import polars as pl

home = tempfile.TemporaryDirectory(prefix="recray-")
os.environ["RECRAY_HOME"] = home.name

import recray
from recray.bundles.retriever import read_retriever
from recray.data.events.split_data import DataConfig, open_split
from recray.ops.ann import IndexConfig, build_index
from recray.pages.palette import BLUE, GREEN, GREY, ORANGE, PURPLE
from recray.pages.plots import Picture
from recray.pipelines.compare import compare_models

data = recray.load("synthetic")

# %% [markdown]
# ## Three ideas, the oldest first
#
# 1. *Count.* What is popular is probably fine. (`popularity`)
# 2. *Neighbours.* Items that the same people took are alike; what you took votes for what is like it.
#    (`item_knn`; `ease` and `slim` learn how much each vote counts)
# 3. *Vectors.* Give each user and each item a list of numbers, a **vector** or **embedding**, such that the
#    product of the two (the next section) is large where the user took the item. Nobody says what the numbers
#    mean; training finds them. (`two_tower`)
#
# The third has two gifts. What is near each other in space is alike, so the model can say something about a
# new item by its title and genre alone. And the *nearest vectors to a point* can be found without looking
# at all of them, which is what makes millions possible.
#
# ## What a vector is
#
# The whole of scoring is this: multiply number by number, add up. Two made-up numbers, "how much action"
# and "how much romance":

# %%
ada = np.array([0.9, 0.1])
films = {
    "The Chase": np.array([1.0, 0.0]),
    "A Kiss": np.array([0.0, 1.0]),
    "Love and Bullets": np.array([0.7, 0.7]),
}
{title: round(float(ada @ film), 2) for title, film in films.items()}

# %% [markdown]
# A **two-tower** model has one neural network that makes the user's vector and another that makes the item's.
# They meet only in that product: so all item vectors are computed once, ahead, and an answer costs one vector
# and a search.
#
# It learns from pairs that happened, user and item, a batch of a thousand at a time. Of the thousand items in
# the batch each user's own is the right answer and all others are wrong ones (*in-batch softmax*). Popular
# items are in more batches, so they come up as wrong answers more often than they deserve; each score is
# corrected by how often its item is drawn (*logQ*). We give it four passes over the data (`epochs`); its
# usual settings would take more and be better.

# %%
towers = recray.fit("two_tower", data, data__split="global-time", loop__epochs=4, refit=False).publish()
towers

# %% [markdown]
# `refit=False` keeps the model that was measured, instead of training again on everything; we want to look
# into it below and to ask it questions whose answers it has not learnt.
#
# What do the vectors look like? Sixty-four numbers cannot be drawn. But the two directions in which they
# differ most can (a principal component analysis), with four genres in colour. Nobody told the plot about
# genres.

# %%
inside = read_retriever(towers.bundle)
vectors = inside.item_ID
enough = inside.item_counts_I >= 20
centred = vectors - vectors[enough].mean(axis=0)
_, _, directions = np.linalg.svd(centred[enough], full_matrices=False)
flat = centred @ directions[:2].T
genre = inside.items["genres"].list.first().to_numpy()


def space(axes):
    axes.scatter(*flat[enough].T, s=6, color=GREY, alpha=0.35)
    for name, color in zip(
        ("Horror", "Romance", "War", "Comedy"), (ORANGE, BLUE, GREEN, PURPLE), strict=True
    ):
        axes.scatter(*flat[enough & (genre == name)].T, s=12, color=color, label=name)
    axes.set_position((0.12, 0.15, 0.84, 0.7))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, columnspacing=1, handletextpad=0.2)
    axes.set_xlabel("first direction")
    axes.set_ylabel("second")


Picture(space, "Items as training has placed them")

# %% [markdown]
# Near each other means alike. By hand, and by the call for it, `similar`:

# %%
item = int(np.argmax(inside.item_counts_I))
nearest = np.argsort(-(vectors @ vectors[item]))[1:6]
by_hand = [inside.items["title"][int(row)] for row in nearest]
inside.items["title"][item], by_hand

# %%
towers.similar(inside.items["raw_id"][item], k=5).select("place", "title", "score")

# %% [markdown]
# ## How good is a retriever?
#
# Retrieval is not asked for the right order. It is asked that the right item is *among* the few hundred
# that it hands on: what it misses, no ranking can bring back. So its number is **recall@k** for large k: of
# what the user took in the test, how much is among the first k?
#
# `ideal` ranks by the truth that was planted. Real data has no such line, and it is good to see once that
# even the truth does not find everything: people choose, and choices are partly chance.

# %%
ks = (10, 20, 50, 100, 200, 400)
asked = DataConfig(dataset="synthetic", split="global-time")
rows = compare_models(asked, ["popularity", "item_knn", towers.reference, "ideal"], seeds=1, ks=ks)
recall = {row.model: [row.evaluation.means()[f"recall@{k}"] for k in ks] for row in rows}
pl.DataFrame({"k": ks, **recall}).with_columns(pl.exclude("k").round(3))


# %%
def curves(axes):
    for (name, line), color in zip(recall.items(), (GREY, ORANGE, BLUE, GREEN), strict=True):
        axes.plot(ks, line, marker="o", markersize=3, color=color, label=name)
    axes.set_ylim(0, 1)
    axes.legend(loc="lower right")
    axes.set_xlabel("k: how many are handed on")
    axes.set_ylabel("recall@k")


Picture(curves, "What retrieval misses, nobody brings back")

# %% [markdown]
# Read it from the right. With 400 of 1,500 items handed on, even the best ranking step can find no more than
# the curve's height at 400; with 50, no more than its height at 50. More candidates cost ranking time in
# proportion. Where the curve grows flat is a good place to stop.
#
# ## Pitfall: the item that nobody took yet
#
# Neighbours know an item by who took it. How much of the test is about items of which training has no
# event?

# %%
split = open_split(asked).split
seen_in_training = np.bincount(data.prepared.item_ids_N[split.train_N], minlength=data.prepared.num_items)
tested = data.prepared.item_ids_N[split.test_N]
print(f"{(seen_in_training[tested] == 0).mean():.1%} of the test events are of items without training events")
print(f"{(seen_in_training[tested] < 20).mean():.1%} of items with fewer than 20")

# %% [markdown]
# This is the **cold start** of items. `item_knn` gives such items a zero, for ever: what is not shown is
# not taken, and what is not taken is not shown. The two-tower reads title, genres and year, so a new item
# has a vector at once. How well does each find items by how often they were seen?

# %%
found = {
    "item_knn": recray.fit("item_knn", data, data__split="global-time", refit=False),
    "two_tower": towers,
}
groups = {"never": (0, 1), "1 to 19": (1, 20), "20 to 99": (20, 100), "100 and more": (100, 10**9)}
counts = dict(zip(data.items["raw_id"], seen_in_training.tolist(), strict=True))
boundary = int(data.prepared.timestamps_N[split.test_N].min())
truth: dict[str, set[str]] = {}
for user, row in zip(data.prepared.user_ids_N[split.test_N], tested, strict=True):
    truth.setdefault(data.users["raw_id"][int(user)], set()).add(data.items["raw_id"][int(row)])
some = sorted(truth)[:300]
lines = []
for name, model in found.items():
    lists = model.recommend(some, k=100, at=boundary).group_by("user").agg("item")
    handed = {user: set(items) for user, items in lists.iter_rows()}
    for group, (low, high) in groups.items():
        wanted = [(u, i) for u in some for i in truth[u] if low <= counts[i] < high]
        hits = sum(i in handed[u] for u, i in wanted)
        lines.append((name, group, len(wanted), hits / len(wanted)))
pl.DataFrame(lines, schema=["model", "training events of the item", "asked for", "recall@100"], orient="row")

# %% [markdown]
# Over all items together the neighbours are ahead of this hasty two-tower, and they will never find a new
# item. One number for everything hides this table; look for it whenever somebody says "the simple model is
# just as good", or that it is not.
#
# ## Searching without looking at everything
#
# Ten thousand vectors are multiplied in a millisecond; a hundred million are not. An **approximate index**
# walks a graph of neighbours towards the question and looks at a few hundred vectors on the way (HNSW). It
# may miss some. How many, is a setting:

# %%
rng = np.random.default_rng(0)
centres = rng.normal(size=(200, 32))
many = (centres[rng.integers(200, size=10_000)] + 0.5 * rng.normal(size=(10_000, 32))).astype(np.float32)
questions = many[rng.integers(10_000, size=500)] + 0.3 * rng.normal(size=(500, 32)).astype(np.float32)

exact = build_index(many, IndexConfig(kind="exact")).search(questions, 10).item_ids_BK
efforts, kept, took = (10, 20, 40, 80, 160), [], []
for effort in efforts:
    index = build_index(
        many, IndexConfig(kind="hnsw", hnsw_links=8, hnsw_ef_construction=40, hnsw_ef_search=effort)
    )
    started = time.perf_counter()
    approximate = index.search(questions, 10).item_ids_BK
    took.append((time.perf_counter() - started) / len(questions) * 1e6)
    kept.append(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, approximate, strict=True)]))
pl.DataFrame(
    {"candidates looked at": efforts, "found of the true ten": kept, "microseconds a question": took}
)

# %% [markdown]
# Two different things are called recall, and they are confused every day: this one is *of the search* (did
# the index find what the model scores best?), the curve above is *of the model* (does the model score best
# what the user took?). A model that is wrong is not mended by an exact search.
#
# ## Three questions
#
# **1. Why not one model that does both steps well?**
#
# Because of what each may look at. Retrieval must reduce each item to a vector ahead of time, so it cannot
# look at user and item *together*. Ranking can, and costs a thousand times more for each item, so it looks
# at few.
#
# **2. A retriever has recall@10 of 0.10 and recall@400 of 0.70, another 0.12 and 0.55. Which one stands
# before a ranker that takes 400?**
#
# The first. The order within the 400 is the ranker's work; what is missing from them is lost.
#
# **3. Items that are new today are never recommended. Name two ways out, and what each needs.**
#
# A model that reads what items say of themselves (title, genre, price): it needs such columns, and they
# must mean something. Or showing new items on purpose, a few to a few (exploration, a rule `fresh`): it
# needs the will to spend some lists on learning.

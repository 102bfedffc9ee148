# %% [markdown]
# # Your shop in 15 minutes
#
# A shop knows what its customers bought. A recommender turns that into an answer to one question: what
# should *this* customer see next? We go the whole way once, on a small shop, and leave out nothing but the
# reasons, which the other notebooks give.
#
# **What we assume.** You write software and have never built a recommender. You have a file of events (who
# did what, and when) and perhaps a file of products. Nothing else is needed: no ratings, no labels, no
# graphics card.
#
# The shop here is made up, so that we know what is in it. For your own, run the next cell, skip to "Read it"
# and name your files. `RECRAY_HOME` is the folder in which data sets and models are kept (`~/.recray`, where
# nothing is said); here it is one that is gone at the end.

# %%
import os
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

home = tempfile.TemporaryDirectory(prefix="recray-")  # nothing of this notebook stays; leave it out to keep
os.environ["RECRAY_HOME"] = home.name

import recray
from recray.pages.palette import BLUE, GREY, INK
from recray.pages.plots import Picture
from recray.schema import DataError

# %% [markdown]
# ## The shop
#
# 120 products of six kinds, 400 customers, half a year. Each customer likes one kind most and a second one
# a little; within a kind a few products sell well and most sell seldom. That is all there is to find out,
# and it is roughly what there is to find out in a real shop, too.

# %%
rng = np.random.default_rng(7)
kinds = ["tea", "coffee", "honey", "cheese", "bread", "jam"]
places = "Assam Bergen Cork Delft Evora Faro Ghent Hilo Izmir Jaca Kyoto Lund Mainz Nara Oslo Pisa "
places += "Quito Riga Sligo Turin"
products = [f"{place} {kind}" for kind in kinds for place in places.split()]
popularity = np.tile(1 / np.arange(1, 21) ** 0.8, len(kinds))

rows = []
for customer in range(400):
    first, second = rng.choice(len(kinds), 2, replace=False)
    liked = np.full(len(kinds), 0.06)
    liked[first], liked[second] = 1.0, 0.4
    chance = np.repeat(liked, 20) * popularity
    count = min(6 + rng.poisson(8), 25)
    bought = rng.choice(len(products), count, replace=False, p=chance / chance.sum())
    days = np.sort(rng.uniform(0, 180, count))
    rows += [
        (f"c{customer:03}", f"sku-{item:03}", 1_767_225_600 + int(day * 86_400))
        for item, day in zip(bought, days, strict=True)
    ]

shop = Path(home.name) / "shop"
shop.mkdir()
events = pl.DataFrame(rows, schema=["kunde", "artikel", "at"], orient="row")
events.write_csv(shop / "events.csv")
pl.DataFrame(
    {
        "artikel": [f"sku-{n:03}" for n in range(len(products))],
        "title": products,
        "kind": [name.split()[1] for name in products],
    }
).write_csv(shop / "products.csv")
events.head(3)

# %% [markdown]
# ## Read it
#
# `load` finds out by itself what is in a table: separators, dates, which column is which. It does not guess
# where it cannot know. Our shop's columns have German names, so it refuses, and says what to write:

# %%
try:
    recray.load(shop / "events.csv")
except DataError as error:
    print(error)

# %% [markdown]
# Errors in this house (so we call the project) are sentences: what is wrong, the value, the way out. We do as
# we are told.

# %%
data = recray.load(
    shop / "events.csv",
    items=shop / "products.csv",
    user="kunde",
    item="artikel",
    timestamp="at",
    name="shop",
)
data

# %% [markdown]
# What came out names the file of a **quality report**, a page to open in a browser: duplicates, wrong dates,
# how much of the shop is bought once. Read it before anything else; most bad recommenders are bad data. One
# picture of it is in every such report, because every shop looks like this:

# %%
sold = events.group_by("artikel").len().sort("len", descending=True)["len"].to_numpy()


def long_tail(axes):
    axes.bar(np.arange(len(sold)), sold, width=1.0, color=BLUE)
    axes.set_xlabel("products, the best seller first")
    axes.set_ylabel("sold")


Picture(long_tail, "A few products sell often, most sell seldom")

# %% [markdown]
# This is the **long tail**. It is why "show everybody the best sellers" is a decent recommender and why it
# is never the end: it shows a customer who came for cheese the same tea as everybody else.
#
# ## Two recommenders
#
# **Popularity** counts. It is the same list for all, minus what you have already. Every later model must
# beat it.
#
# **Item neighbours** (`item_knn`) says that two products are alike if the same people bought both. What you
# bought then votes for what is like it. It is from 2004, has little to tune, and is where a shop should
# begin.
#
# `fit` trains a model, measures it on purchases that it was not shown, and then trains it again on
# everything, because what answers tomorrow should know today.

# %%
popular = recray.fit("popularity", data)
neighbours = recray.fit("item_knn", data)
neighbours

# %% [markdown]
# ## Ask it
#
# What did customer `c007` buy, and what does each model suggest?

# %%
neighbours.history("c007", last=6)

# %%
pl.concat(
    [
        popular.recommend("c007", k=5).select("place", popularity="title"),
        neighbours.recommend("c007", k=5).select(item_neighbours="title", score="score"),
    ],
    how="horizontal",
)

# %% [markdown]
# The customer buys bread and tea, and the list on the right has more of these than the one on the left. The
# model was never told that kinds exist; it only saw who bought what with what. (A `score` only orders a list:
# it is no probability, and those of two models cannot be compared.)
#
# Two customers that every shop has. A **visitor** who is not signed in but has looked at two things, and
# somebody of whom *nothing* is known:

# %%
neighbours.recommend({"a visitor": ["sku-043", "sku-047"]}, k=3).select("user", "place", "title", "fallback")

# %%
neighbours.recommend("who-is-this", k=3).select("user", "place", "title", "fallback")

# %% [markdown]
# The visitor is answered from the two things. For the stranger the column `fallback` says `popular`: the
# honest answer where nothing is known, and said rather than hidden.
#
# ## Is it better, or does it only look better?
#
# Five lists prove nothing. So: for each customer hide the last purchase, let the model rank all products
# that the customer has not bought, and see at which place the hidden one stands. **Hit@10** is the share of
# customers for whom it is among the first ten. **NDCG@10** also asks how far up: a first place counts 1, a
# tenth 0.29, an eleventh nothing.

# %%
table = recray.compare([popular, neighbours], data)
table

# %%
found = table.metrics.filter(metric="hit@10")


def bars(axes):
    middle, low, high = (found[name].to_numpy() for name in ("mean", "low", "high"))
    axes.barh(found["model"], middle, color=[GREY, BLUE], xerr=[middle - low, high - middle], ecolor=INK)
    axes.set_xlabel("hit@10, with its 95 % interval over customers")


Picture(bars, "Neighbours find the hidden purchase more often")

# %% [markdown]
# The intervals say how sure this is with 400 customers: another 400 of the same kind might give any number
# in there. The second table asks the same customers both ways and so is surer of the *difference* than of
# either number. Where its interval holds zero, chance alone may have made the difference: do not ship it.
#
# A word on size: a hit@10 of 0.3 may look poor. The model had to find *the* next purchase among about a
# hundred products, and people are free. Numbers of recommenders are small; what counts is the difference to
# popularity, on your data.
#
# ## Keep it, and serve it
#
# So far the model lives in this process. `publish` makes it a **version**: a folder with a number, never
# changed again. Its name is that of the data and of the model, `shop-item_knn`. Servers answer with the
# version that is called `production`; `to_production` gives that name to ours.

# %%
neighbours.publish(to_production=True)
again = recray.open("shop-item_knn")
assert again.recommend("c007", k=5).equals(neighbours.recommend("c007", k=5))
again.reference

# %% [markdown]
# In a shell, one command answers over HTTP, from the same home folder. So leave the line with `RECRAY_HOME`
# out above, start this notebook again, and then, the second line in a second shell:
#
# ```bash
# recray serve --application shop-item_knn
# curl localhost:8000/recommend -H 'content-type: application/json' -d '{"user_id": "c007", "k": 5}'
# ```
#
# `http://localhost:8000/` is a page to try it by hand. And the whole of this notebook is three commands
# there. What we gave to `load` stands behind a `?`, and `--promote` is `to_production`:
#
# ```bash
# columns="user=kunde&item=artikel&timestamp=at"
# recray train item_knn "shop/events.csv?$columns&items=products.csv&name=shop" --promote
# recray evaluate "shop/events.csv?$columns&name=shop" --models popularity item_knn
# recray serve --application shop-item_knn
# ```
#
# ## What we left out
#
# Whether the measurement is right (07), models that know more than who bought what (03 to 06), and what
# happens after the first day: new events, a worse version, a market that moves (08). Every word in bold
# stands in the [glossary](glossary.md).
#
# ## Three questions
#
# **1. Why is popularity trained at all, if everybody gets the same list?**
#
# Because it is the number to beat, and it costs nothing. A model that is not clearly above it has learnt
# what is popular, in a more expensive way. It is also what strangers get.
#
# **2. The model was measured without each customer's last purchase. Is that the model that is served?**
#
# No. It is trained again on everything after it was measured, since what answers tomorrow should know the
# newest day. The numbers belong to the first one; they are the best guess for the second.
#
# **3. A product on these lists sold out yesterday. Where does one say that?**
#
# Not in the model: what it learnt is still true. Whether an item can be had is a rule of serving, a column
# `available` of the products or one call, `PUT /items/sku-061` with `{"available": false}`, which counts
# within a second ([serving](../serving.md)).

# %% [markdown]
# # Data: who did what, and when
#
# Everything that a recommender knows stands in one table. Most of what goes wrong later goes wrong here,
# quietly. This notebook looks at a data set the way one should look at one's own: what is in it, what is
# wrong with it, and how it is cut into what is learnt and what is asked about.
#
# **What we assume.** You know tables. The data is generated (`synthetic`): 2,000 people, 1,500 films, two
# years, with tastes that somebody planted, so that for once the truth is known.

# %%
import os
import tempfile

import numpy as np
import polars as pl

home = tempfile.TemporaryDirectory(prefix="recray-")
os.environ["RECRAY_HOME"] = home.name

import recray
from recray.data.events.prepare import load_or_prepare
from recray.data.events.split_data import DataConfig, open_split
from recray.pages.palette import BLUE, GREY, ORANGE
from recray.pages.plots import Picture, logarithmic
from recray.schema import DataError

data = recray.load("synthetic")
data

# %% [markdown]
# ## Events
#
# One row is an **event** or **interaction**: a *user*, an *item*, a *time*. Often there is more: a rating,
# a price, a kind of event (view, cart, purchase).
#
# Two kinds of event tell different things. A **rating** is *explicit*: somebody was asked and answered. A
# click or a purchase is *implicit*: nobody was asked, and *not clicking means almost nothing*, since most
# things were never seen. Shops have implicit data. So recommenders do not learn "likes and dislikes"; they
# learn *what was taken out of all that could have been*.

# %%
prepared = data.prepared
events = pl.DataFrame(
    {
        "user": prepared.user_ids_N,
        "item": prepared.item_ids_N,
        "time": pl.from_epoch(pl.Series(prepared.timestamps_N)),
    }
)
events.tail(3)

# %%
data.items.head(3)

# %% [markdown]
# Three numbers to ask of any data set:

# %%
possible = prepared.num_users * prepared.num_items
per_user = events.group_by("user").len()["len"]
per_item = events.group_by("item").len()["len"].sort(descending=True)
print(f"{len(events):,} events of {possible:,} that could be: {len(events) / possible:.1%}")
print(f"events of a user: median {per_user.median():.0f}, from {per_user.min()} to {per_user.max()}")
top = per_item.head(len(per_item) // 10).sum() / len(events)
print(f"the most popular tenth of the items has {top:.0%} of the events")

# %% [markdown]
# The first is **sparsity**: nearly all cells of the big table of users and items are empty, and an empty
# cell is a "don't know", not a "no". The last is the **long tail**.


# %%
def tail(axes):
    axes.plot(np.arange(1, len(per_item) + 1), per_item.to_numpy(), color=BLUE)
    logarithmic(axes.xaxis)
    logarithmic(axes.yaxis)
    axes.set_xlabel("items, the most popular first")
    axes.set_ylabel("events")


Picture(tail, "The long tail, on two logarithmic axes")

# %% [markdown]
# ## Dirt
#
# Here is a small export with three things wrong that real exports have: a row told twice, a visitor without
# an id, a blank behind a name. What does the reader say?

# %%
dirty = pl.DataFrame(
    {
        "user": ["ada", "ada", "ada ", "ben", "ben", None, "eve"],
        "item": ["pen", "pen", "ink", "ink", "pad", "pen", "pad"],
        "timestamp": [
            1_700_000_000,
            1_700_000_000,
            1_700_000_060,
            1_700_000_300,
            1_700_000_400,
            1_700_000_500,
            1_700_000_600,
        ],
    }
)
try:
    recray.load(dirty, name="dirty")
except DataError as error:
    print(error)

# %% [markdown]
# A row that belongs to nobody is an error, not a guess. You decide: leave such rows out (`anonymous="drop"`),
# or, where the table has a column of sessions, take the session for the user (`anonymous="session"`).

# %%
small = recray.load(dirty, name="dirty", anonymous="drop")
small.prepared.num_users, len(small)

# %% [markdown]
# Three users (`"ada "` is `"ada"`), five events (the copy is one). Times may be in seconds, milliseconds or
# ISO dates, but one column has one unit; a mixture is refused:

# %%
mixed = dirty.drop_nulls().with_columns(
    timestamp=pl.when(pl.int_range(pl.len()) == 4).then(1_700_000_600_000).otherwise(pl.col("timestamp"))
)
try:
    recray.load(mixed, name="mixed")
except DataError as error:
    print(error)

# %% [markdown]
# Robots are yours to find. Nobody reads a thousand product pages in an hour; the quality report says how
# many events the busiest users have for that reason. Robots have a taste, and a model will learn it.
#
# ## Throwing away what is rare
#
# Papers often keep only users and items with at least five events each, again and again until nothing
# changes: a **k-core**. It makes numbers better, because what is difficult has gone. Look at what it does
# here:

# %%
for k in (0, 30):
    kept = load_or_prepare("synthetic", k_core=k)
    print(f"k = {k:2}: {kept.num_users:5,} users, {kept.num_items:5,} items, {len(kept):7,} events")

# %% [markdown]
# Your shop will not send away customers with two purchases. A number on a k-core is a number about other
# people; that is why `k_core` stands on the **protocol card**, the note with every number that says how it
# was measured (notebook 07).
#
# ## The cut
#
# To measure a model one hides some events and asks for them. *Which* events one hides decides what the
# number means, more than the choice of the model does. Three cuts:
#
# - **random split**: any tenth of the events.
# - **leave-one-out**: each user's last event.
# - **global time**: everything after a date.
#
# That hidden part is the *test*. A second one, cut off before it in the same way, is the *validation*: by it
# one chooses between models and settings, so that the test is asked only once. All else is the *training*.


# %%
def cut(name):
    return open_split(DataConfig(dataset="synthetic", split=name)).split


splits = {name: cut(name) for name in ("random", "leave-one-out", "global-time")}
months = (prepared.timestamps_N - prepared.timestamps_N.min()) / (30.44 * 86_400)


def parts_of(split):
    def draw(axes):
        parts = [months[mask] for mask in (split.train_N, split.validation_N, split.test_N)]
        axes.hist(
            parts, bins=24, stacked=True, color=[GREY, BLUE, ORANGE], label=["training", "validation", "test"]
        )
        axes.legend(loc="upper left")
        axes.set_xlabel("month")
        axes.set_ylabel("events")

    return draw


Picture(parts_of(splits["random"]), "random: the test lies among what is learnt")

# %%
Picture(parts_of(splits["leave-one-out"]), "leave-one-out: each user's end, whenever that was")

# %%
Picture(parts_of(splits["global-time"]), "global time: the test is the future")

# %% [markdown]
# In life one knows the past and is asked about the future. Count how far each cut is from that: of the
# events in the test part, for how many does the training part hold events that happened *later*, of the
# same user, or of anybody?


# %%
def later(split):
    """Share of test events after which the training part goes on: for the same user, for anybody."""
    times, users = prepared.timestamps_N, prepared.user_ids_N
    newest = np.zeros(prepared.num_users, np.int64)
    np.maximum.at(newest, users[split.train_N], times[split.train_N])
    tested = split.test_N
    own = (newest[users[tested]] > times[tested]).mean()
    return own, (times[split.train_N].max() > times[tested]).mean()


pl.DataFrame(
    [(name, *map(float, later(split))) for name, split in splits.items()],
    schema=["split", "own future is known", "others' future is known"],
    orient="row",
)

# %% [markdown]
# - Under *random*, nearly every question is about a moment whose future was learnt: "she saw the first and
#   the third part of a series; what did she see between them?" That is filling gaps, and much easier than to
#   recommend.
# - **Leave-one-out** never knows the user's own future. It knows that of others: what became popular in
#   December helps to guess what somebody took in June. It asks everybody, so numbers are stable; papers use
#   it, and so do the tables of this house where they are compared with papers.
# - **Global time** knows nothing of the future. It is the cut for decisions. Its price: only users who have
#   events after the date can be asked about.
#
# What the difference is worth in numbers is the first thing that notebook 07 shows.
#
# ## A leak in a side table
#
# **Leakage** is that something of the hidden answer stands in what the model may look at. The random cut was
# one kind; this is the sneakiest. Somebody adds a useful column to the table of products: how often each was
# sold. It is exported *today*, so it counts the very purchases that are hidden. `fit` and `compare` look for
# this and warn; `strict=True` refuses.

# %%
sold = events.group_by("item").len().rename({"len": "sold"})
catalogue = (
    data.items.select("raw_id", "title").with_row_index("item").with_columns(pl.col("item").cast(pl.Int64))
)
catalogue = catalogue.join(sold, on="item", how="left").with_columns(pl.col("sold").fill_null(0))
table = events.with_columns(
    user=pl.Series(data.users["raw_id"]).gather(events["user"]),
    item=pl.Series(data.items["raw_id"]).gather(events["item"]),
)
leaky = recray.load(table, items=catalogue.drop("item").rename({"raw_id": "item"}), name="leaky")
try:
    recray.fit("popularity", leaky, data__split="global-time", strict=True)
except DataError as error:
    print(error)

# %% [markdown]
# ## Three questions
#
# **1. A colleague reports a fine number on a random split. What do you ask?**
#
# What it is on a split by time. Under a random split a model is asked to fill gaps between events that it
# knows; in production it is asked about tomorrow. The order of models may differ between the two, not only
# the numbers.
#
# **2. Why is a missing event not a "no"?**
#
# Because nearly everything was never seen by nearly everybody. A model that takes all empty cells for
# dislikes learns what is shown, not what is liked. Notebook 08 meets this again, as the feedback loop.
#
# **3. The table of products has a column `rating_average`. May the model have it?**
#
# Only as it was before each moment that is asked about. An average of today holds the ratings of the hidden
# purchases. As it changes with time it belongs to the events, from which features are computed strictly
# before the request (notebook 04).

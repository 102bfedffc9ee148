# %% [markdown]
# # Semantic ids: items as words
#
# To every model so far an item is a row number. Row 4711 tells nothing about row 4712, and a new item is a
# row that no training has seen. A **semantic id** is a short tuple of codes that is made from what an item
# says about itself: `12-3-7`. Items with the same first code are of a kind, those that share two are close
# relatives. It is a made-up language with words for items.
#
# Then a model that writes language can *write* recommendations, code by code. That is **generative
# retrieval**.
#
# **What we assume.** You have read [retrieval](03_retrieval.py) and [sequences](05_sequences.py). Items
# have texts: titles, genres, descriptions.

# %%
import os
import tempfile

import numpy as np
import polars as pl

home = tempfile.TemporaryDirectory(prefix="recray-")
os.environ["RECRAY_HOME"] = home.name

import recray
from recray.bundles.codes import lookup, read_codes
from recray.pages.palette import BLUE
from recray.pages.plots import Picture
from recray.pipelines.semantic_ids import publish_semantic_ids
from recray.store import Store

everything = recray.load("synthetic")
some = everything.prepared.user_ids_N < 400  # 400 people are enough here, and five times quicker than all
events = pl.DataFrame(
    {
        "user": everything.prepared.user_ids_N[some],
        "item": everything.items["raw_id"].gather(everything.prepared.item_ids_N[some]),
        "timestamp": everything.prepared.timestamps_N[some],
    }
)
data = recray.load(events, items=everything.items.rename({"raw_id": "item"}), name="films")
data.items.select("title", "genres", "text").head(3)

# %% [markdown]
# ## From text to codes
#
# Two steps.
#
# 1. *Text to vector.* Words that two items share, weighed by how rare they are (TF-IDF), pressed into some
#    hundred numbers. What does this is called an encoder; others are a setting.
# 2. *Vector to codes.* Have 32 points in that space, a **codebook**; the number of the nearest point is the
#    first code. What is left over, the difference to that point, is coded by a second codebook, what is
#    then left by a third. Each code refines the one before: *residual* quantisation.
#
# An **RQ-VAE** learns the points, and a small network before them that bends the space so that they fit. It
# needs no events at all.

# %%
rqvae = recray.fit("rqvae", data).publish()
codes = publish_semantic_ids(rqvae.bundle, Store())
raw_ids, ids = read_codes(codes)
print(f"{ids.num_items:,} items, levels of {ids.sizes}")
{name: round(value, 3) for name, value in codes.manifest.metrics.items()}

# %% [markdown]
# The last level is no code: items whose codes are all equal (**collisions**) are numbered, so that each id is
# one item. `collision_rate` says how many that are, `usage_1` which share of the first codebook's points any
# item has. The other figures are on the page of [semantic ids](../semantic_ids.md).
#
# ## Do the codes mean something?
#
# Take the first code that most items have, and look at genres among its items and among all.

# %%
items = data.items.with_columns(first=pl.Series(ids.codes_IL[:, 0]))
genres = items.explode("genres").group_by("genres").len().with_columns(share=pl.col("len") / len(items))
often = int(items["first"].mode()[0])
within = items.filter(first=often)
of_code = within.explode("genres").group_by("genres").len().with_columns(here=pl.col("len") / len(within))
of_code.join(genres, on="genres").select("genres", "here", among_all="share").sort(
    "here", descending=True
).head(5)

# %% [markdown]
# And level by level: how alike are two items that share nothing, one code, two codes? By genres that they
# have in common.

# %%
rng = np.random.default_rng(0)
pairs = rng.integers(len(items), size=(60_000, 2))
pairs = pairs[pairs[:, 0] != pairs[:, 1]]
sets = [set(one) for one in items["genres"].to_list()]
same = ids.codes_IL[pairs[:, 0]] == ids.codes_IL[pairs[:, 1]]
shared = np.cumprod(same[:, :-1], axis=1).sum(axis=1)  # length of the common beginning
alike = np.array([len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in pairs])
levels = sorted(set(shared.tolist()))
means = [float(alike[shared == level].mean()) for level in levels]


def by_prefix(axes):
    axes.bar([str(level) for level in levels], means, color=BLUE)
    axes.set_xlabel("codes that two items have in common, from the left")
    axes.set_ylabel("genres in common (share)")


Picture(by_prefix, "The longer the common beginning, the closer the relatives")

# %% [markdown]
# The model was not asked for genres; they are among the words. Look one up, both ways:

# %%
beginnings = [f"{a}-{b}" for a, b in ids.codes_IL[:, :2].tolist()]
common = max(set(beginnings), key=beginnings.count)
written = pl.Series("codes", ["-".join(map(str, row)) for row in ids.codes_IL.tolist()])
relatives = [raw_id for raw_id, _ in lookup(codes, common)]
print(common)
items.with_columns(written).filter(pl.col("raw_id").is_in(relatives)).select("title", "genres", "codes").head(
    6
)

# %%
film = items["raw_id"][0]
lookup(codes, film)

# %% [markdown]
# ## A new item has an id before anybody saw it
#
# Its codes follow from its words alone.

# %%
new = pl.DataFrame(
    {
        "raw_id": ["new-1"],
        "title": ["The Last Gentle Pursuit 2 (2024)"],
        "genres": [["Action", "Documentary"]],
        "year": [2024],
        "text": [items["text"][0]],
    },
    schema={**data.items.schema},
)
longer = publish_semantic_ids(rqvae.bundle, Store(), extra=new)
lookup(longer, "new-1"), lookup(longer, film)

# %% [markdown]
# ## Pitfall: a language with too few words
#
# Codes must be able to say what the items differ in. Give the codebooks four points in place of 32:

# %%
poor = recray.fit("rqvae", data, model__quantizer__codebook_size=4, loop__epochs=10)
pl.DataFrame(
    [
        (name, rqvae.metrics[name], poor.metrics[name])
        for name in ("collision_rate", "reconstruction", "usage_1")
    ],
    schema=["metric", "32 codes a level", "4 codes a level"],
    orient="row",
)

# %% [markdown]
# `collision_rate`: items that share all their codes with another. `reconstruction`: how much of an item's
# vector its codes lose (0: nothing). Three levels of four are 64 words for
# 1,500 items. The other illness has the same sign and a different cause: **collapse**, where most points of
# a codebook are never the nearest (`usage` far below 1). The house stops a training that collapses.
#
# But few collisions are no end in themselves. What a writer needs is codes that *similar items share*; on
# ml-100k a decoder was better on codes with more collisions ([semantic ids](../semantic_ids.md) has the
# figures).
#
# ## Write the next item
#
# A **decoder** reads the codes of a history and writes the codes of the next item, one after the other.
# **Beam search** keeps the ten best beginnings at each step. A **trie** of all ids allows only codes that
# go on to an item, so that what is written always exists.
#
# A small one, a few passes; a real one wants a graphics card and hours.

# %%
decoder = recray.fit(
    "decoder",
    data,
    refit=False,
    version="1",  # of the codes; 2 has the new item too
    loop__epochs=6,
    model__encoder_layers=1,
    model__decoder_layers=1,
    model__history_tokens="items",
)
table = recray.compare(["popularity", "item_knn", decoder], data)
table

# %% [markdown]
# After so little training it is no match for what counts neighbours. Trained to its end on ml-100k it is
# above plain neighbours and below the linear models (`ease`, `slim`); on small data the cheap ones win, and
# what generation buys is elsewhere: new items without training, one model for search and recommendation, no
# index of vectors to build and keep. [Which model when](which_model.md) has what was measured.
#
# ## Three questions
#
# **1. Two items have the ids `12-3-7-0` and `12-3-7-1`. What do you know?**
#
# Their content codes are equal: for all that their texts say, they are the same thing (two editions, say).
# The last number only tells them apart and means nothing.
#
# **2. Why is the decoder not allowed to write any code it likes?**
#
# Because most tuples are no item. Without the trie it would spend probability on words that do not exist,
# and a list of ten would have holes.
#
# **3. The catalogue gets 5,000 new items each week. Which parts must be trained again?**
#
# None at once: their codes follow from the encoder and the codebooks as they are, and the decoder may write
# them. In time, when the new items are of kinds that the codebooks have no room for (reconstruction of the
# new ones is worse than of the old), the RQ-VAE; and then everything behind it, since all codes change.

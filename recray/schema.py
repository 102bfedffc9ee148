"""What the data is: features of users and items, and the protocol a metric was measured under.

Both travel inside bundles as JSON, so that a served model knows what it was trained on and two
numbers are compared only if they were measured alike.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from recray.config import from_dict, to_dict


class DataError(ValueError):
    """Data is wrong: the message names the file, the line or column, and the way out."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One side feature of every user or every item.

    ``ids``: up to ``width`` category ids per row out of ``size``, mean-pooled by models; id 0 means
    absent. ``dense``: ``width`` float32 values per row; ``size`` is 0.
    """

    name: str
    kind: Literal["ids", "dense"]
    size: int
    width: int


@dataclass(frozen=True, kw_only=True)
class FeatureSchema:
    """The catalogue a model is built for."""

    num_users: int
    num_items: int
    user: tuple[Feature, ...] = ()
    item: tuple[Feature, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return to_dict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> "FeatureSchema":
        return from_dict(FeatureSchema, values)


@dataclass(frozen=True, kw_only=True)
class SparseFeature:
    """A column of category ids 0 .. ``size`` - 1 of every row; 0 is what is unknown or too rare."""

    name: str
    size: int
    multi_hot: bool = False
    """Any number of ids per row, none included; else exactly one."""


@dataclass(frozen=True, kw_only=True)
class RowSchema:
    """The columns of rows to rank: what a ranking model is built for."""

    dense: tuple[str, ...]
    """float32 columns, NaN where missing."""
    sparse: tuple[SparseFeature, ...]
    sessions: bool = False
    """Rows come in sessions (queries, lists of a user) that are ranked within."""

    def to_json(self) -> dict[str, Any]:
        return to_dict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> "RowSchema":
        return from_dict(RowSchema, values)


@dataclass(frozen=True, kw_only=True)
class ContentSchema:
    """The content vectors that a model of items is built for."""

    content_dim: int
    """Length of an item's content vector."""
    content_digest: str
    """Of the encoder that made the vectors: another one's vectors mean something else."""

    def to_json(self) -> dict[str, Any]:
        return to_dict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> "ContentSchema":
        return from_dict(ContentSchema, values)


@dataclass(frozen=True, kw_only=True)
class SemanticSchema:
    """The catalogue, as semantic ids, that a generative retriever is built for."""

    num_users: int
    num_items: int
    code_sizes: tuple[int, ...]
    """Codes of each level; see ``recray.semantic_ids``."""
    codes_digest: str
    """Of the map between items and codes."""

    def to_json(self) -> dict[str, Any]:
        return to_dict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> "SemanticSchema":
        return from_dict(SemanticSchema, values)


Schema = FeatureSchema | RowSchema | ContentSchema | SemanticSchema


def schema_from_json(values: dict[str, Any]) -> Schema:
    """The schema that ``to_json`` wrote; each kind has a field that no other one has."""
    if "sparse" in values:
        return RowSchema.from_json(values)
    if "content_dim" in values:
        return ContentSchema.from_json(values)
    return (SemanticSchema if "code_sizes" in values else FeatureSchema).from_json(values)


Learnt = Literal["training", "before test", "all"]
"""What a model learnt from: the training part of a split, all before its test part, or all there is."""
FULL_CATALOGUE = "full catalogue"


@dataclass(frozen=True, kw_only=True)
class ProtocolCard:
    """How a metric was measured. Metrics under different cards are not comparable."""

    dataset: str
    dataset_hash: str
    split: str  # e.g. "leave-one-out", "global-time(0.8,0.1,0.1)", "random(0.8,0.1,0.1,seed=0)"
    target: str  # "validation" or "test"
    relevance: str  # which interactions count as relevant, e.g. "all" or "rating>=4"
    k_core: int
    duplicates: str = "exact rows dropped"
    candidates: str = FULL_CATALOGUE
    seen: str = "filtered"  # "filtered" or "kept"
    repeats: str = "kept"  # "kept", or "merged": a user's events with one item count as one, its last
    known: str = "history"  # what models may know at test; see ``EventChoices.known``
    ties: str = "expected credit over random order of tied scores"
    num_users: int = 0
    sample: str = ""  # "5,000 of 1,600,000 users", where not all are asked
    # No protocol, but said beside it:
    served: str = field(default="", compare=False)  # the application whose lists these are
    dropped: dict[str, int] = field(
        default_factory=dict, compare=False
    )  # why users are not asked -> how many
    learnt: str = field(default="", compare=False)  # first and last day of the training part, where known

    @property
    def asked(self) -> str:
        """Whose lists were measured, for a person."""
        return f"{self.sample}, drawn once" if self.sample else f"{self.num_users:,} users"

    def to_json(self) -> dict[str, Any]:
        """Without later fields at their defaults, so that the digests of older versions hold."""
        older = {"repeats": "kept", "known": "history", "sample": "", "dropped": {}, "learnt": ""}
        return {k: v for k, v in to_dict(self).items() if k not in older or v != older[k]}

    @staticmethod
    def from_json(values: dict[str, Any]) -> "ProtocolCard":
        return from_dict(ProtocolCard, values)

    def held_out_otherwise(self, other: "ProtocolCard") -> list[str]:
        """In what other events were kept from whoever learned, for a person; empty: they were the same."""
        called = {
            "dataset": "data set",
            "k_core": "k_core",
            "split": "split",
            "relevance": "what is to be found",
            "repeats": "repeats",
            "known": "known at test",
        }
        differ = {name: pair for name, pair in self.differences(other).items() if name in called}
        found = [f"{called[name]} {mine}, here {theirs}" for name, (mine, theirs) in differ.items()]
        if self.dataset_hash != other.dataset_hash and not differ.keys() & {"dataset", "k_core"}:
            hashes = f"{self.dataset_hash[:8]}, here {other.dataset_hash[:8]}"
            found.append(f"its events or its tables of items and users have changed since (data {hashes})")
        return found

    def differences(self, other: "ProtocolCard") -> dict[str, tuple[Any, Any]]:
        """Fields in which two cards differ: name -> (this, other)."""
        names = [f.name for f in dataclasses.fields(self) if f.compare]
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in names}
        return {name: (mine, theirs) for name, (mine, theirs) in pairs.items() if mine != theirs}

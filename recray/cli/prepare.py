"""Prepare a data set: raw files -> an immutable folder with a quality report.

recray prepare ml-1m
recray prepare ml-1m --rows      # or amazon-beauty --item-content
recray prepare s3://shop/events/ --reader ray   # more than memory holds
recray prepare "shop/events.csv?user=visitor&timestamp=at&items=products.csv&anonymous=drop"
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from recray.cli.jobs import run_job
from recray.config import ConfigError
from recray.data.content.vectors import ContentConfig, item_content
from recray.data.events.prepare import Reader, in_memory, in_partitions, load_or_prepare, prepared_manifest
from recray.data.rows.prepare import load_or_prepare_rows
from recray.data.rows.sources import options_of
from recray.data.sources import is_registered
from recray.pipelines.leaks import find_leaks, leaks_of_dataset, leaks_of_files, report

ReaderName = Literal["memory", "partitions", "ray"]


@dataclass(frozen=True)
class Prepare:
    dataset: tyro.conf.Positional[str]
    """A registered data set (`recray datasets`), or the path of a table (CSV, TSV, Parquet, JSON lines; a
    file, folder, glob, s3://...), an .inter or a sequence file; with `--rows` also of Criteo logs or a folder
    of LibSVM files. Behind a `?`: columns, items=, users=, anonymous=, label=... (all in docs/data.md)."""
    k_core: Annotated[int, tyro.conf.arg(name="data.k-core")] = 0
    """Keep users and items with at least this many interactions, repeatedly; 0 keeps all."""
    reader: ReaderName = "memory"
    """Interactions at once; in partitions, for Parquet files of any size; or those spread over a Ray cluster,
    whose nodes share the home. The data set is the same."""
    rows: bool = False
    """Prepare rows to rank (clicks and their features) instead of interactions."""
    item_content: bool = False
    """Make the vectors of the items' text and attributes too."""
    strict: bool = False
    """Refuse data with a leak: what tells a model what it will not know when it is asked."""
    content: ContentConfig = field(default_factory=ContentConfig)


def prepare(config: Prepare) -> None:
    if config.rows or is_registered(options_of(config.dataset)[0], "rows"):
        if config.k_core or config.item_content or config.reader != "memory":
            raise ConfigError(
                "k_core, item_content and reader are for interactions: leave them out for rows to rank"
            )
        table = load_or_prepare_rows(config.dataset)
        parts = ", ".join(f"{part.rows:,} {part.name}" for part in table.manifest.parts)
        print(f"{table.name}: {parts} rows in {table.folder}")
        folder, leaks = table.folder, [*leaks_of_files(config.dataset), *find_leaks(table)]
    else:
        prepared_manifest(config.dataset, k_core=config.k_core, reader=reader_named(config.reader))
        dataset = load_or_prepare(config.dataset, k_core=config.k_core)
        counts = f"{dataset.num_users:,} users, {dataset.num_items:,} items, {len(dataset):,} interactions"
        print(f"{dataset.name}: {counts} in {dataset.folder}")
        folder, leaks = dataset.folder, leaks_of_dataset(dataset)
        if config.item_content or config.content != ContentConfig():
            print(item_content(dataset, config.content).summary())
    print(f"quality report: {folder / 'quality.html'}")
    report(leaks, strict=config.strict)


def reader_named(name: ReaderName) -> Reader:
    if name == "memory":
        return in_memory
    if name == "partitions":
        return in_partitions()
    from recray.data.etl.spread import with_ray  # Ray takes seconds to import
    from recray.launch.cluster import join

    join()
    return in_partitions(with_ray)


def main(args: Sequence[str]) -> int:
    return run_job("prepare", prepare, Prepare, __doc__, args)

"""Prepare a data set: raw files -> an immutable folder with a quality report.

python jobs/prepare.py ml-1m
python jobs/prepare.py ml-1m --rows
python jobs/prepare.py amazon-beauty --item-content
python jobs/prepare.py criteo-sample
"""

from dataclasses import dataclass, field

import tyro

from recray.cli.jobs import run_job
from recray.config import ConfigError
from recray.data.content.vectors import ContentConfig, item_content
from recray.data.events.prepare import load_or_prepare
from recray.data.rows.prepare import load_or_prepare_rows
from recray.data.rows.sources import options_of
from recray.data.sources import is_registered


@dataclass(frozen=True)
class Prepare:
    dataset: tyro.conf.Positional[str]
    """A registered data set (`recray datasets`), or the path of a table (CSV, TSV, Parquet, JSON lines; a
    file, a folder, a glob, s3://...), an .inter or a sequence file, options behind a `?` (docs/data.md);
    with `--rows` also of Criteo logs or a folder of LibSVM files."""
    k_core: int = 0
    """Keep users and items with at least this many interactions, repeatedly; 0 keeps all."""
    rows: bool = False
    """Prepare rows to rank (clicks and their features) instead of interactions."""
    item_content: bool = False
    """Make the vectors of the items' text and attributes too."""
    content: ContentConfig = field(default_factory=ContentConfig)


def main(config: Prepare) -> None:
    if config.rows or is_registered(options_of(config.dataset)[0], "rows"):
        if config.k_core:
            raise ConfigError(f"k_core={config.k_core} is for interactions: leave it out for rows to rank")
        if config.item_content:
            raise ConfigError("item_content is for interactions: leave it out for rows to rank")
        table = load_or_prepare_rows(config.dataset)
        parts = ", ".join(f"{part.rows:,} {part.name}" for part in table.manifest.parts)
        print(f"{table.name}: {parts} rows in {table.folder}")
        folder = table.folder
    else:
        dataset = load_or_prepare(config.dataset, k_core=config.k_core)
        print(
            f"{dataset.name}: {dataset.num_users:,} users, {dataset.num_items:,} items, "
            f"{len(dataset):,} interactions in {dataset.folder}"
        )
        folder = dataset.folder
        if config.item_content or config.content != ContentConfig():
            print(item_content(dataset, config.content).summary())
    print(f"quality report: {folder / 'quality.html'}")


if __name__ == "__main__":
    run_job(main, Prepare, __doc__)

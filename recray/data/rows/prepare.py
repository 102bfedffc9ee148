"""Rows to rank, prepared once and read by many: the door that models and jobs come through."""

import json
import logging
import time
from pathlib import Path

from recray import paths
from recray.data.events.dataset import QUALITY, QUALITY_PAGE, now
from recray.data.row_source import PARTS, RowSource
from recray.data.rows.quality import measure_rows
from recray.data.rows.sources import options_of, rows_of
from recray.data.rows.table import RowManifest, RowTable, load_rows, read_row_manifest, write_row_manifest
from recray.data.rows.writer import RowWriter
from recray.data.sources import SOURCES
from recray.folders import build_once, digest, require_same

log = logging.getLogger(__name__)


def load_or_prepare_rows(name_or_path: str, **options: object) -> RowTable:
    """The rows of a registered name, of a data set of interactions, or of files; prepared if missing.

    Each set of options that differs from the defaults, and each state of a file, has a folder of its
    own; ``**options`` are the fields of the source (``Criteo``, ``RatingsAsRows``...), which may also
    be written behind the name: ``criteo-kaggle?ids=hashed&buckets=1000``.

    Raises:
        ConfigError: there is neither a data set nor a file of that name, or no such option.
        DataError: the raw files are missing (the message says where to put them) or wrong.
    """
    name, written = options_of(name_or_path)
    options = {**written, **options}
    source = rows_of(name, options)
    stem = source.name
    plain = name in SOURCES and (not options or source.options() == rows_of(name, {}).options())
    if not plain:
        stem = f"{stem}-{digest(source.options())}"
    return prepare_rows(source, paths.datasets_dir() / stem)


def prepare_rows(source: RowSource, folder: Path) -> RowTable:
    """Writes the folder; where it is already there, only loads it.

    Safe to kill at any moment and to run several times at once.

    Raises:
        DataError: the raw files are missing or wrong, or the folder holds something else.
    """
    folder = folder.absolute()
    build_once(
        folder,
        lambda prepared: _is_prepared(prepared, source),
        lambda target, scratch: _build(source, target, scratch),
    )
    return load_rows(folder)


def _is_prepared(folder: Path, source: RowSource) -> bool:
    manifest = read_row_manifest(folder)
    found = {**manifest.options, "source": manifest.source}
    require_same(folder, found, {"source": source.reader, **source.options()})
    return True


def _build(source: RowSource, target: Path, scratch: Path) -> None:
    """Writes the complete folder, manifest last."""
    from recray.data.rows.quality_page import render_rows  # matplotlib is slow to import, workers do without

    started = time.monotonic()
    raw = source.rows(scratch)
    writer = RowWriter(target, raw.schema)
    for part in PARTS:
        log.info("%s: writing %s", source.name, part)
        writer.write(part, raw.parts[part], shuffle=raw.shuffle_train and part == "train")
    dense = writer.tallies["train"].dense_stats(raw.schema)
    if raw.encoding:
        raw.encoding.write(target)
    quality = measure_rows(source.name, raw, writer.tallies, writer.ids, dense)
    (target / QUALITY).write_text(json.dumps(quality.to_json(), indent=2), encoding="utf-8")
    (target / QUALITY_PAGE).write_text(render_rows(quality), encoding="utf-8")
    manifest = RowManifest(
        name=source.name,
        source=source.reader,
        schema=raw.schema,
        split=raw.split,
        parts=tuple(writer.parts),
        dense=dense,
        options={**source.options(), **raw.facts},
        hash=writer.content_hash(raw.encoding),
        created_at=now(),
    )
    write_row_manifest(target, manifest)
    rows = sum(part.rows for part in writer.parts)
    log.info("%s: %s rows prepared in %.1f s", source.name, f"{rows:,}", time.monotonic() - started)

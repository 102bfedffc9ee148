"""What a window is compared with, as a small file: a sketch, and what it was made of.

A bundle brings one of its own lists; the log has one of a version's first week. Arrays are NumPy's (no
pickle), what describes them is JSON in the same file.
"""

import io
import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from recray.config import from_dict
from recray.folders import write_whole
from recray.monitor.drift_report import Sample
from recray.monitor.sketch import Sketch, Watched
from recray.schema import DataError

FORMAT = 1
ARRAYS = ("counts_GST", "items_GH", "vectors_GSR", "with_vector_GS", "shown_I")
SMALL = {"counts_GST": np.int32, "items_GH": np.int32, "vectors_GSR": np.float32}


def save_sketch(sketch: Sketch, path: Path) -> None:
    """The same bytes for the same sketch."""
    about = {
        "format": FORMAT,
        "watched": [asdict(column) for column in sketch.watched],
        "sample": asdict(sample_of(sketch)),
        "sums": sketch.sums,
        "known": sketch.known,
    }
    arrays = {name: getattr(sketch, name) for name in ARRAYS}
    arrays = {name: values.astype(SMALL.get(name, values.dtype)) for name, values in arrays.items()}
    written = io.BytesIO()
    np.savez_compressed(written, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
    write_whole(path, written.getvalue())


def load_sketch(path: Path) -> Sketch:
    """
    Raises:
        DataError: it is damaged, or of another version of recray.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            arrays = {name: file[name] for name in ARRAYS}
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}, this code reads {FORMAT}")
        sample = from_dict(Sample, about["sample"])
        watched = tuple(from_dict(Watched, column) for column in about["watched"])
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: no reference of drift ({error}): delete it, or publish it again") from error
    return Sketch(
        watched=watched,
        counts_GST=arrays["counts_GST"].astype(np.int64),
        items_GH=arrays["items_GH"].astype(np.int64),
        vectors_GSR=arrays["vectors_GSR"].astype(np.float64),
        with_vector_GS=arrays["with_vector_GS"],
        shown_I=arrays["shown_I"],
        since=sample.since,
        until=sample.until,
        rows=sample.rows,
        answers=sample.answers,
        num_users=sample.users,
        sums=about["sums"],
        known=about["known"],
    )


def sample_of(sketch: Sketch) -> Sample:
    """How much it was made of; moments of nothing are 0."""
    some = sketch.rows > 0
    return Sample(
        since=float(sketch.since) if some else 0.0,
        until=float(sketch.until) if some else 0.0,
        rows=sketch.rows,
        answers=sketch.answers,
        users=sketch.num_users,
    )

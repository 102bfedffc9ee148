"""Downloads that survive a broken connection: resumed where they stopped, complete or absent.

The bytes go to ``<file>.part`` beside the target, and the validator of the server's copy (ETag or
date) to ``<file>.part.json``, so that a later run continues the same file and never splices two.
"""

import json
import logging
import time
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from recray.schema import DataError

log = logging.getLogger(__name__)

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


class _InterruptedError(Exception):
    """The connection ended before the file did."""


def download(url: str, to: Path, *, otherwise: str, attempts: int = 5, pause_s: float = 1.0) -> Path:
    """Fetches ``url`` into the file ``to``, with a progress bar, continuing an earlier attempt.

    A connection that breaks is taken up again up to ``attempts`` times in a row without progress;
    one that cannot be made at all fails at once.

    Args:
        otherwise: what to do by hand, for the message of the error.
        pause_s: wait before the second attempt, doubled for each further one.

    Raises:
        DataError: no network, an HTTP error, or too many broken connections.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(to.name + ".part")
    log.info("downloading %s to %s", url, to)
    failures = 0
    with httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as client:
        while True:
            before = _size(part)
            try:
                _fetch(client, url, part)
                break
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.HTTPStatusError) as error:
                raise DataError(f"cannot download {url} ({error}): {otherwise}") from error
            except (httpx.TransportError, _InterruptedError) as error:
                failures = 1 if _size(part) > before else failures + 1
                if failures >= attempts:
                    raise DataError(
                        f"{url} broke off {failures} times ({error}); run again to continue, or {otherwise}"
                    ) from error
                log.warning("%s broke off at %s bytes (%s); continuing", url, f"{_size(part):,}", error)
                time.sleep(pause_s * 2 ** (failures - 1))
    part.replace(to)
    _validator_file(part).unlink(missing_ok=True)
    return to


def _fetch(client: httpx.Client, url: str, part: Path) -> None:
    """One connection: appends to ``part`` what is missing; returns when the file is whole."""
    have, validator = _size(part), _read_validator(part)
    headers = {"Accept-Encoding": "identity"}
    if have and validator:
        # If-Range: the rest if the server still has the same file, else all of the new one.
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            # Nothing beyond what is here: whole if the sizes agree, else start over.
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return
            part.unlink()
            raise _InterruptedError("the server's file is shorter than the part on disk")
        response.raise_for_status()
        start = have if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
        total = _total_bytes(response, start)
        _write_validator(part, response)
        _append(response, part, start, total)
    if total is not None and _size(part) != total:
        raise _InterruptedError(f"{_size(part):,} of {total:,} bytes")


def _append(response: httpx.Response, part: Path, start: int, total: int | None) -> None:
    bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, mininterval=0.5)
    with part.open("r+b" if start else "wb") as file, bar:
        file.seek(start)
        for chunk in response.iter_raw():
            file.write(chunk)
            bar.update(len(chunk))


def _total_bytes(response: httpx.Response, start: int) -> int | None:
    """Size of the whole file; None where the server does not say."""
    length = response.headers.get("Content-Length")
    return start + int(length) if length else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_validator(part: Path) -> str | None:
    try:
        values: Any = json.loads(_validator_file(part).read_text())
    except (FileNotFoundError, ValueError):
        return None
    return values.get("validator") if isinstance(values, dict) else None


def _write_validator(part: Path, response: httpx.Response) -> None:
    etag = response.headers.get("ETag", "")
    # A weak ETag promises the same meaning, not the same bytes.
    validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
    _validator_file(part).write_text(json.dumps({"validator": validator}))

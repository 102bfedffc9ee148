"""Objects under the home's address, in S3 or Google Cloud Storage. Only this and ``arrow`` import obstore.

Every call says in one sentence what is wrong with the address. What cannot be reached is asked again for
``PATIENCE_S`` seconds (``patiently``), but where the cache has an answer (``if_there``).
"""

import functools
import hashlib
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from recray import paths
from recray.config import ConfigError
from recray.redaction import hidden
from recray.schema import DataError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore

log = logging.getLogger(__name__)
PATIENCE_S, RETRY_S = 180.0, 1.0
_LONGEST_PAUSE_S = 5.0
_CHUNK_BYTES = 8 << 20
_NO_BUCKET = "bucket does not exist"
T = TypeVar("T")
_away_until_s: dict[str, float] = {}  # monotonic time, by home


class HomeError(DataError):
    """The home cannot be used: the message names the address, and the way out."""


class UnreachableError(HomeError):
    """The bucket does not answer; it may again."""


class HomeDamagedError(HomeError):
    """What lies in the bucket is not what was written there."""


class ChangedError(Exception):
    """An object is not, or not any more, what it was when it was looked at."""


class Tag(NamedTuple):
    """Tells one content of an object from another."""

    e_tag: str | None
    version: str | None


class Object(NamedTuple):
    content: bytes
    tag: Tag


class Listing(NamedTuple):
    """What is directly in a folder of the bucket: names of folders and of objects."""

    folders: list[str]
    objects: list[str]


def patiently(ask: Callable[[], T]) -> T:
    """What ``ask`` says, asked again while the bucket cannot be reached.

    Raises:
        UnreachableError: for more than ``PATIENCE_S`` seconds.
    """
    began_s, pause_s, waited = time.monotonic(), 0.2, False
    while True:
        try:
            answer = ask()
        except UnreachableError as error:
            if time.monotonic() - began_s > PATIENCE_S:
                raise
            if not waited:
                log.warning("%s; trying again for %.0f s", error, PATIENCE_S)
            waited = True
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        else:
            if waited:
                log.warning("%s answers again after %.0f s", paths.address(), time.monotonic() - began_s)
            return answer


def if_there(ask: Callable[[], T], otherwise: Callable[[], T]) -> T:
    """What ``ask`` says, and ``otherwise``, of the cache, while the bucket cannot be reached.

    One that did not answer is not asked again for ``RETRY_S`` seconds: servers look every second.
    """
    home = str(paths.home())
    if time.monotonic() < _away_until_s.get(home, 0.0):
        return otherwise()
    try:
        answer = ask()
    except UnreachableError as error:
        if home not in _away_until_s:
            log.warning("%s; going on with what this machine has of it", error)
        _away_until_s[home] = time.monotonic() + RETRY_S
        return otherwise()
    if _away_until_s.pop(home, 0.0):
        log.warning("%s answers again", paths.address())
    return answer


def get(key: str) -> Object | None:
    """
    Raises:
        UnreachableError: there is no answer.
        HomeError: there is no such bucket, or it may not be read.
    """
    import obstore

    with _explained():
        try:
            found = obstore.get(_opened(hasty=True), key)
            content = bytes(found.bytes())
        except FileNotFoundError as error:
            _unless_the_bucket_is_missing(error)
            return None
        return Object(content, Tag(found.meta["e_tag"], found.meta["version"]))


def tag(key: str) -> Tag | None:
    """As ``get``, without the content."""
    import obstore

    with _explained():
        try:
            found = obstore.head(_opened(hasty=True), key)
        except FileNotFoundError as error:
            _unless_the_bucket_is_missing(error)
            return None
        return Tag(found["e_tag"], found["version"])


def put(key: str, content: bytes) -> None:
    """Replaces an object, whatever it was; as ``get``."""
    import obstore

    with _explained():
        obstore.put(_opened(hasty=True), key, content)


def put_if(key: str, content: bytes, before: Tag | None) -> None:
    """Replaces an object that is still what it was; None: it was not there.

    Raises:
        ChangedError: somebody else was faster.
    """
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    mode: Any = {name: value for name, value in before._asdict().items() if value} if before else "create"
    try:
        with _explained():
            obstore.put(_opened(hasty=True), key, content, mode=mode, use_multipart=False)
    except (AlreadyExistsError, PreconditionError) as error:
        found = get(key)
        if found is None or found.content != content:  # else it was we, and the answer was lost
            raise ChangedError(key) from error


def upload(path: Path, key: str) -> None:
    import obstore

    with _explained():
        obstore.put(_opened(), key, path)


def download(key: str, path: Path) -> str:
    """Copies an object into a file; returns its sha256.

    Raises:
        FileNotFoundError: it is not there any more.
    """
    import obstore

    digest = hashlib.sha256()
    with _explained(), path.open("wb") as out:
        for chunk in obstore.get(_opened(), key).stream(min_chunk_size=_CHUNK_BYTES):
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def delete(keys: list[str]) -> None:
    import obstore

    with _explained():
        for key in keys:
            try:
                obstore.delete(_opened(), key)
            except FileNotFoundError as error:
                _unless_the_bucket_is_missing(error)


def listing(folder: str) -> Listing:
    """Without what is further down; both sorted."""
    import obstore

    with _explained():
        found = obstore.list_with_delimiter(_opened(hasty=True), folder)
    objects = [each["path"] for each in found["objects"]]
    return Listing(*(sorted(_name(path) for path in each) for each in (found["common_prefixes"], objects)))


def keys_under(folder: str) -> list[str]:
    import obstore

    with _explained():
        return [each["path"] for page in obstore.list(_opened(), folder) for each in page]


def require_there() -> None:
    """
    Raises:
        UnreachableError: there is no answer.
    """
    listing("")
    _away_until_s.pop(str(paths.home()), None)


def require_writable() -> None:
    """Writes a small object and removes it.

    Raises:
        ConfigError, HomeError: what is wrong with RECRAY_HOME, in one sentence.
    """
    key = f".probe-{secrets.token_hex(4)}"
    put(key, b"")
    delete([key])


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _opened(*, hasty: bool = False) -> "ObjectStore":
    """A client; ``hasty`` for small objects, whose answer takes no time."""
    require_obstore()
    return _client(paths.address(), os.environ.get("AWS_ENDPOINT_URL", ""), hasty)


@functools.cache
def _client(address: str, endpoint: str, hasty: bool) -> "ObjectStore":
    from obstore.store import from_url

    with _explained():
        return from_url(
            address,
            client_options=client_options(hasty),
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=5)},
        )


def client_options(hasty: bool) -> "ClientConfig":
    """``hasty``: for small objects, whose answer takes no time."""
    return {
        "allow_http": os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"),
        "connect_timeout": timedelta(seconds=3),
        "timeout": timedelta(seconds=5 if hasty else 60),
    }


def require_obstore() -> None:
    try:
        import obstore  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"RECRAY_HOME is {hidden(paths.address())}, which needs obstore: pip install 'recray[remote]'"
        ) from None


def _unless_the_bucket_is_missing(error: FileNotFoundError) -> None:
    if _NO_BUCKET in str(error):
        raise error


@contextmanager
def _explained() -> Iterator[None]:
    """What obstore raises, in one sentence for people."""
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        yield
    except (AlreadyExistsError, PreconditionError):
        raise
    except (BaseError, FileNotFoundError) as error:
        said = str(error)
        if isinstance(error, FileNotFoundError) and _NO_BUCKET not in said:
            raise
        raise _sentence(said) from None  # its own text goes on for pages


def _sentence(said: str) -> HomeError:
    where = f"RECRAY_HOME {hidden(paths.address())}"
    if _NO_BUCKET in said:
        return HomeError(f"{where}: there is no such bucket: create it, or name another one")
    if "169.254.169.254" in said or "metadata.google.internal" in said or "credential" in said.lower():
        return HomeError(
            f"{where}: no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (of "
            "Google: GOOGLE_APPLICATION_CREDENTIALS), or run on a machine that has a role"
        )
    status = next(iter(re.findall(r"status code: (\d+)", said)), "")
    if status in ("401", "403"):
        return HomeError(
            f"{where}: access was refused ({status}): check whose credentials these are, and that they may "
            "list, read, write and delete there"
        )
    why = "no answer in time" if "kind: Timeout" in said else ""
    why = why or next(iter(re.findall(r'message: "([^"]+)"', said)), "")
    why = why or said.partition("\n")[0].rpartition(" - ")[2].partition(": <")[0]
    if status and not status.startswith("5") and status != "429":
        return HomeError(f"{where}: {hidden(why)}: check the address, AWS_REGION and AWS_ENDPOINT_URL")
    return UnreachableError(
        f"{where} cannot be reached ({hidden(why)}): check the address, the network and AWS_ENDPOINT_URL"
    )

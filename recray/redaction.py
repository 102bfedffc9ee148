"""What no log, record, version or tracker may carry: secrets of the environment, and logins in addresses.

The doors through which text leaves call ``hidden``: a run's record and its version's manifest (``launch``,
``pipelines.train``), every line of the log (``track.console``), how a run ended (``track.record``), what is
said of data (``data.sources.files``), and the error that a command prints (``cli``). Trackers read the
record, so they are behind the same doors.

A value counts as secret by the name of its variable, from eight letters on: shorter ones are words, and to
hide a word hides it wherever it stands.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar, cast
from urllib.parse import quote, unquote

HIDDEN = "***"
LEAST_LETTERS = 8
NOTIFY = "RECRAY_NOTIFY"  # addresses of webhooks, secret as a whole and in their parts

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|WEBHOOK|DSN|_PAT$", re.IGNORECASE)
_NO_SECRET = re.compile(
    r"_(PATH|FILE|DIR|HOME|SOCK|MODE|URI)$|PARALLELISM$", re.IGNORECASE
)  # where one is kept
_PASSWORD = re.compile(r"://[^\s/?#@:]*:(?!\d+/)([^\s@\"']+)@")  # in the address of a database
_HOST = re.compile(r"localhost|[\d.]+|[a-z-]+(\.[a-z-]+)+|json|https?")
_QUERY = r"([?&;](?:[\w.-]*(?:token|secret|passw|signature|credential|api_?key|access_?key)[\w.-]*|sig|pwd)=)"
_RULES = (
    # A login in an address; what follows a colon may hold anything up to the @, unless it is a port.
    (re.compile(r"(?<=://)[^\s/?#@]+@"), f"{HIDDEN}@"),
    (re.compile(r"(?<=://)[^\s@\"']*?:(?!\d+/)[^\s@\"']*@"), f"{HIDDEN}@"),
    (re.compile(_QUERY + r"[^&;\s\"']+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(bearer|basic)\s+[\w+/=.~-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
)
V = TypeVar("V")


def hidden(text: str) -> str:
    """The text with ``***`` in the place of every secret that this process knows of."""
    for secret in _secrets():
        if secret in text:
            text = text.replace(secret, HIDDEN)
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    return text


def hidden_within(value: V) -> V:
    """The same of every text in JSON-like values; keys stay."""
    return cast(V, _within(value))


def _within(value: object) -> object:
    if isinstance(value, str):
        return hidden(value)
    if isinstance(value, Mapping):
        return {key: _within(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_within(each) for each in value]
    return value


def is_secret_name(variable: str) -> bool:
    """Whether what a variable holds is one, by its name."""
    return variable == NOTIFY or bool(_SECRET_NAME.search(variable) and not _NO_SECRET.search(variable))


def _secrets() -> list[str]:
    """Longest first, so that none is cut in two by another; asked anew, as notebooks set variables late."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if name == NOTIFY:
            parts = re.split(r"[\s,;/:@?&=]+", value)
            found.update(_spellings([*value.split(), *(part for part in parts if not _HOST.fullmatch(part))]))
        elif is_secret_name(name):
            found.update(_spellings([value, *value.splitlines()]))
        found.update(_spellings(_PASSWORD.findall(value)))
    return sorted(found, key=len, reverse=True)


def _spellings(values: Iterable[str]) -> Iterator[str]:
    """As it is, and as addresses spell it."""
    for value in values:
        for spelt in (value.strip(), quote(value.strip(), safe=""), unquote(value.strip())):
            if len(spelt) >= LEAST_LETTERS:
                yield spelt

"""A bundle's reference as answers name it; of proxies too, which know no model."""

# The standard library's own TypedDict cannot be read by pydantic before Python 3.12.
from typing_extensions import TypedDict

from recray.store import Reference


class Version(TypedDict):
    name: str
    version: int
    digest: str


def version(reference: Reference) -> Version:
    return {"name": reference.name, "version": reference.version, "digest": reference.digest}

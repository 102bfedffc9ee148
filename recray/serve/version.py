"""A bundle's reference as answers name it; of proxies too, which know no model."""

from pydantic import with_config

# The standard library's own TypedDict cannot be read by pydantic before Python 3.12.
from typing_extensions import TypedDict

from recray.store import Reference

told_in_words = with_config(use_attribute_docstrings=True)
"""Of an answer: the API page says what stands below its fields."""


@told_in_words
class Version(TypedDict):
    name: str
    """of a bundle in the store"""
    version: int
    """its number there"""
    digest: str
    """of all its files: what answered, whatever it is called"""


def version(reference: Reference) -> Version:
    return {"name": reference.name, "version": reference.version, "digest": reference.digest}

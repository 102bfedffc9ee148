"""What of the home lies in a bucket, where RECRAY_HOME is an address; this machine's folder is its cache.

Two kinds of things are kept: folders that appear whole and never change (``wholes``), and small files
that are replaced (``files``). Where the home is a folder, nothing here does anything.
"""

from recray.storage.bucket import (
    ChangedError,
    HomeDamagedError,
    HomeError,
    Tag,
    UnreachableError,
    if_there,
    require_there,
    require_writable,
)
from recray.storage.files import erase, refresh, replace, send, tag_of
from recray.storage.home import FOLDERS, file_system, key_of
from recray.storage.wholes import drop, fetch, folders_in, names_in, peek, push

__all__ = [
    "FOLDERS",
    "ChangedError",
    "HomeDamagedError",
    "HomeError",
    "Tag",
    "UnreachableError",
    "drop",
    "erase",
    "fetch",
    "file_system",
    "folders_in",
    "if_there",
    "key_of",
    "names_in",
    "peek",
    "push",
    "refresh",
    "replace",
    "require_there",
    "require_writable",
    "send",
    "tag_of",
]

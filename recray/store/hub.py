"""Bundles on the HuggingFace Hub: one bundle per repository, its newest version at the head.

What travels is the manifest and the files that it names: weights as safetensors, nothing pickled. A
pulled bundle is the very one that was pushed: name, number and digest. Only this file imports
huggingface_hub; HF_ENDPOINT names another server than huggingface.co, HF_TOKEN who asks.
"""

import contextlib
import importlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from recray.store.bundle import Bundle
from recray.store.manifest import MANIFEST_FILE, BundleManifest, StoreError, read_manifest
from recray.store.staging import PICKLED
from recray.store.store import Store

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)


def push_bundle(bundle: Bundle, repo: str, *, private: bool = True) -> str:
    """Makes a published bundle the head of a repository ("owner/name"), which is made where there is none.

    Returns:
        The commit's address.

    Raises:
        StoreError: a file is damaged, huggingface_hub is missing, or the Hub cannot be reached or refuses.
    """
    bundle.verify()
    api = _api()
    with _explained(api, repo):
        # Not ``exist_ok``: refused, it reads its own address by what HF_ENDPOINT was at import.
        if not api.repo_exists(repo):
            api.create_repo(repo, private=private)
        done = api.upload_folder(
            repo_id=repo,
            folder_path=bundle.folder,
            allow_patterns=[MANIFEST_FILE, *bundle.manifest.files],
            commit_message=str(bundle.reference),
        )
    log.info("pushed %s to %s", bundle.reference, done.commit_url)
    return str(done.commit_url)


def pull_bundle(repo: str, store: Store | None = None, *, revision: str | None = None) -> Bundle:
    """The bundle of a repository, installed in the store under its own name and number.

    Args:
        revision: branch, tag or commit; None: the head.

    Raises:
        StoreError: huggingface_hub is missing, the Hub cannot be reached or refuses, the repository
            holds no bundle or a damaged one, or the store has another bundle under that number.
    """
    store = store or Store()
    api = _api()
    with _explained(api, repo):
        commit = api.repo_info(repo, revision=revision).sha  # every file from one commit

    def fetch(file: str, folder: Path) -> None:
        with _explained(api, repo):
            api.hf_hub_download(repo, file, revision=commit, local_dir=folder)

    with tempfile.TemporaryDirectory() as folder:
        fetch(MANIFEST_FILE, Path(folder))
        manifest = read_manifest(Path(folder))
    _check_names(manifest, repo)

    def write(staged: Path) -> None:
        for file in manifest.files:
            fetch(file, staged)
        shutil.rmtree(staged / ".cache", ignore_errors=True)  # what huggingface_hub notes of a download

    bundle = store.install(manifest, write)
    _warn_of_missing(bundle, store)
    return bundle


def _check_names(manifest: BundleManifest, repo: str) -> None:
    """A stranger's manifest must not name files outside its folder, nor such as run code."""
    for file in manifest.files:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or path.suffix in PICKLED or path.parts[0] == ".cache":
            raise StoreError(f"{repo}: its manifest names {file!r}, which no bundle may hold; do not use it")


def _warn_of_missing(bundle: Bundle, store: Store) -> None:
    for role, reference in bundle.manifest.requires.items():
        try:
            store.resolve(reference)
        except StoreError:
            log.warning("%s needs %s as its %s: pull that too", bundle.reference, reference, role)


def _api() -> "HfApi":
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise StoreError("the Hub needs huggingface_hub: pip install 'recray[hub]'") from error
    api: HfApi = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="recray")
    return api


@contextlib.contextmanager
def _explained(api: "HfApi", repo: str) -> Iterator[None]:
    """Turns what huggingface_hub raises into an error that says what to do."""
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        yield
    except errors.HFValidationError as error:
        raise StoreError(f"{repo!r} names no repository: write owner/name") from error
    except errors.RemoteEntryNotFoundError as error:
        raise StoreError(f"{repo} holds no whole bundle: {_first_line(error)}") from error
    except errors.RevisionNotFoundError as error:
        raise StoreError(f"{repo} has no such revision: {_first_line(error)}") from error
    except errors.RepositoryNotFoundError as error:
        raise StoreError(f"no repository {repo} at {api.endpoint}, or it is private: set HF_TOKEN") from error
    except errors.HfHubHTTPError as error:
        raise StoreError(f"{api.endpoint} refuses {repo}: {_first_line(error)}") from error
    except (ConnectionError, errors.LocalEntryNotFoundError, errors.HTTPError) as error:
        raise StoreError(
            f"{api.endpoint} cannot be reached ({_first_line(error)}): the Hub needs a network; "
            "HF_ENDPOINT names another server"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

"""Writing a file or folder so that nobody ever sees half of it."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TypeVar, cast

from fsspec import AbstractFileSystem

from llm_ctr_pipeline.data.errors import StoreError
from llm_ctr_pipeline.data.storage.disk import told_if_short
from llm_ctr_pipeline.data.storage.store_path import SUCCESS, AnyPath, StorePath, remove

PathT = TypeVar("PathT", bound=AnyPath)


class Scratch:
    """A folder beside a target, for drafts of it; a rename is one step only within a file system.

    Making one removes those that killed processes left beside the same target: a living process
    holds a lock on its own.

    Attributes:
        path: The folder.
        draft: A path in it that has the target's name and does not exist yet.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._made = _first_missing(target.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in target.parent.glob(f".{target.name}-*"):
            descriptor = _lock(stale)
            if descriptor is not None:
                shutil.rmtree(stale, ignore_errors=True)
                os.close(descriptor)
        self.path = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        self._descriptor = _lock(self.path)
        self.draft = self.path / target.name

    def put_in_place(self) -> None:
        """Rename the draft to its target, which it replaces."""
        if self._target.is_dir() or (self._target.exists() and self.draft.is_dir()):
            # A rename puts no folder in the place of something: between the two steps there is
            # nothing, but never half.
            os.replace(self._target, self.path / "replaced")
        os.replace(self.draft, self._target)

    def drop(self) -> None:
        """Remove the folder, and the folders above it that were made for it and hold nothing."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._made is not None and not any(path.is_file() for path in self._made.rglob("*")):
            shutil.rmtree(self._made, ignore_errors=True)


class StoreScratch:
    """A folder beside a target on a store, where nothing can be locked.

    There is one name for it, so the next process finds and removes what a killed one left; two
    that write the same target at once are not provided for.

    Attributes:
        path: The folder.
        draft: See `Scratch`.
    """

    def __init__(self, target: StorePath) -> None:
        self._target = target
        self._made = _first_missing(target.parent)
        self.path = target.parent / f".{target.name}-draft"
        self.draft = self.path / target.name
        remove(self.path)

    def put_in_place(self) -> None:
        """Move the draft to its target, which it replaces.

        A folder's move may be a copy of its files, one by one: `_SUCCESS` is the first of the old
        files to go and the last of the new ones to come.

        Raises:
            StoreError: If the store moved less than it was asked to.
        """
        draft, target = self.draft, self._target
        if target.is_dir():
            remove(target / SUCCESS)
        # What is there would be in the way: HDFS moves into a folder, and onto no file.
        remove(target)
        is_folder = draft.is_dir()
        if is_folder:
            remove(draft / SUCCESS)
        expected = _sizes(draft)
        _move(draft, target, [*expected])
        if _sizes(target) != expected:
            raise StoreError(f"{target} is not all of {draft}, which was moved there: run again")
        if is_folder:
            (target / SUCCESS).write_text("", encoding="utf-8")

    def drop(self) -> None:
        """See `Scratch.drop`."""
        remove(self.path)
        if self._made is not None and not _sizes(self._made):
            remove(self._made)


@contextmanager
def drafted(target: PathT, if_full: str | None = None) -> Iterator[PathT]:
    """Give a path to write to, and put what was written there in the target's place at the end.

    If the block fails, the target stays as it was and nothing of the draft is left.

    Args:
        target: A file or a folder, which may exist.
        if_full: What to say of a full disk, if not what `told_if_short` does.

    Yields:
        A path of the same kind that does not exist yet.

    Raises:
        StorageError: If the disk is full.
        EngineMemoryError: If an engine that writes may take too little memory.
    """
    with told_if_short(target.parent, if_full):
        scratch = Scratch(target) if isinstance(target, Path) else StoreScratch(target)
        try:
            yield cast("PathT", scratch.draft)
            scratch.put_in_place()
        finally:
            scratch.drop()


def _move(draft: StorePath, target: StorePath, files: list[str]) -> None:
    fs = target.fs
    if type(fs).mv is not AbstractFileSystem.mv:
        fs.mv(draft.inner, target.inner, recursive=True)
        return
    # The store has no rename, and fsspec's takes folders for files on S3: copy the files, some at
    # a time where the driver can. The draft is removed with its scratch folder.
    fs.copy([draft.inner + name for name in files], [target.inner + name for name in files])


def _sizes(path: StorePath) -> dict[str, int]:
    """The bytes of a file, or of all files in a folder, by what follows the folder's name."""
    found = path.fs.find(path.inner, detail=True)
    return {name.removeprefix(path.inner): info["size"] for name, info in found.items()}


def _lock(folder: Path) -> int | None:
    """Lock a folder until the descriptor is closed; None where another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _first_missing(folder: PathT) -> PathT | None:
    """The uppermost folder on the way to this one that does not exist."""
    missing = [*takewhile(lambda path: not path.exists(), (folder, *folder.parents))]
    return cast("PathT", missing[-1]) if missing else None

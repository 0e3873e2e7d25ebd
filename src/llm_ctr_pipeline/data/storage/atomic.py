"""Writing a file or folder so that nobody ever sees half of it."""

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import TypeVar, cast

from fsspec import AbstractFileSystem

from llm_ctr_pipeline.data.errors import StoreError
from llm_ctr_pipeline.data.storage.disk import told_if_short
from llm_ctr_pipeline.data.storage.durable import exchange, lock_folder, sync, sync_names
from llm_ctr_pipeline.data.storage.store_path import SUCCESS, AnyPath, StorePath, remove

PathT = TypeVar("PathT", bound=AnyPath)

# What a rename says where a folder is in its way, or is to go where a file is.
_IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)


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
        self._made = missing_folders(target.parent)
        sweep(target)
        self.path, self._descriptor = _make_beside(target)
        self.draft = self.path / target.name

    def put_in_place(self) -> None:
        """Rename the draft to its target, which it replaces; a loss of power undoes neither.

        At any moment the target is the old one or the new. Where names cannot be swapped it is
        missing between two renames, and `sweep` puts it back.
        """
        self._let_be_read()
        sync(self.draft)
        try:
            os.replace(self.draft, self._target)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            if not exchange(self.draft, self._target):
                os.replace(self._target, self.path / "replaced")
                os.replace(self.draft, self._target)
        for folder in (self._target, *self._made):
            sync_names(folder.parent)

    def _let_be_read(self) -> None:
        """Give the draft's files the mode of new files: safetensors' are their owner's alone."""
        new = self.path / "new"
        new.touch()
        for file in filter(Path.is_file, (self.draft, *self.draft.rglob("*"))):
            file.chmod(file.stat().st_mode | new.stat().st_mode)

    def drop(self) -> None:
        """Remove the folder, and the folders above it that were made for it and hold nothing."""
        _remove(self.path, self._target)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        with suppress(OSError):  # it holds something
            for folder in self._made:
                folder.rmdir()


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
        self._made = missing_folders(target.parent)
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
        for folder in self._made[-1:]:
            if not _sizes(folder):
                remove(folder)


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


def sweep(target: AnyPath) -> None:
    """Remove what killed processes left beside a target, and put back what they had moved away."""
    if isinstance(target, StorePath):
        return
    for left in target.parent.glob(f".{glob.escape(target.name)}-*"):
        try:
            descriptor = lock_folder(left)
        except OSError:  # in use, or gone meanwhile
            continue
        if descriptor is not None:
            _remove(left, target)
            os.close(descriptor)


def _remove(scratch: Path, target: Path) -> None:
    if not target.exists():
        with suppress(OSError):  # nothing was moved away
            os.replace(scratch / "replaced", target)
    shutil.rmtree(scratch, ignore_errors=True)


def _make_beside(target: Path) -> tuple[Path, int | None]:
    """Make a folder beside a target and lock it; without a lock where the file system has none."""
    while True:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            path = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
            descriptor = lock_folder(path)
        except (FileNotFoundError, BlockingIOError):
            continue  # another process took it, not locked yet, for one that was left
        if descriptor is None or path.exists():
            return path, descriptor
        os.close(descriptor)


def missing_folders(folder: PathT) -> list[PathT]:
    """The folders on the way to this one, and itself, that do not exist; the uppermost last."""
    missing = takewhile(lambda path: not path.exists(), (folder, *folder.parents))
    return cast("list[PathT]", [*missing])

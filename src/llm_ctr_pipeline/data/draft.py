"""Writing a file or folder so that nobody ever sees half of it."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_ctr_pipeline.data.errors import told_if_short


class Scratch:
    """A folder beside a target, for drafts of it; a rename is one step only within a file system.

    Making one removes those that killed processes left beside the same target: a living process
    holds a lock on its own.

    Attributes:
        path: The folder.
    """

    def __init__(self, target: Path) -> None:
        self._made = _first_missing(target.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in target.parent.glob(f".{target.name}-*"):
            descriptor = _lock(stale)
            if descriptor is not None:
                shutil.rmtree(stale, ignore_errors=True)
                os.close(descriptor)
        self.path = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        self._descriptor = _lock(self.path)

    def drop(self) -> None:
        """Remove the folder, and the folders above it that were made for it and hold nothing."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._made is not None and not any(path.is_file() for path in self._made.rglob("*")):
            shutil.rmtree(self._made, ignore_errors=True)


@contextmanager
def drafted(target: Path) -> Iterator[Path]:
    """Give a path to write to, and put what was written there in the target's place at the end.

    If the block fails, the target stays as it was and nothing of the draft is left.

    Args:
        target: A file or a folder, which may exist.

    Yields:
        A path that does not exist yet.

    Raises:
        StorageError: If the disk is full.
        EngineMemoryError: If an engine that writes may take too little memory.
    """
    with told_if_short(target.parent):
        scratch = Scratch(target)
        try:
            draft = scratch.path / target.name
            yield draft
            put_in_place(draft, target)
        finally:
            scratch.drop()


def put_in_place(draft: Path, target: Path) -> None:
    """Rename a draft to its target; a folder in its place is moved beside the draft first."""
    if target.is_dir():
        # A folder cannot replace another: between the two steps there is none, but never half.
        os.replace(target, draft.with_name("replaced"))
    os.replace(draft, target)


def _lock(folder: Path) -> int | None:
    """Lock a folder until the descriptor is closed; None where another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _first_missing(folder: Path) -> Path | None:
    """The uppermost folder on the way to this one that does not exist."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    return missing[-1] if missing else None

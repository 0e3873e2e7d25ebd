"""The disk's room: asked for before something is begun, told of where it ends."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.filesize import decimal

from llm_ctr_pipeline.data.errors import EngineMemoryError, RefusedError, StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What engines and writers in other languages say of it, without a number.
_SAID_OF_FULL = ("could not write", "no space left on device")
_SAID_OF_MEMORY = "out of memory error"  # DuckDB


def check_space(folder: Path, needed: int, message: str) -> None:
    """Refuse to begin what the disk cannot hold.

    Args:
        folder: Where it will lie; need not exist yet.
        needed: Bytes that it will take.
        message: What to say otherwise; `{folder}`, `{needed}` and `{free}` in it are filled in.

    Raises:
        StorageError: If fewer bytes are free.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        sizes = {"needed": decimal(needed), "free": decimal(free)}
        raise StorageError(message.format(folder=folder, **sizes))


@contextmanager
def told_if_short(folder: object, if_full: str | None = None) -> Iterator[None]:
    """Turn what engines and the system raise for want of disk or memory into one kind of error.

    Args:
        folder: The folder written to.
        if_full: What to say of a full disk; None to name the folder and what was raised.

    Raises:
        StorageError: If the disk is full.
        EngineMemoryError: If the engine may take too little memory.
    """
    try:
        yield
    except RefusedError:
        raise
    except Exception as error:
        said = str(error).strip()
        if said.lower().startswith(_SAID_OF_MEMORY):
            raise EngineMemoryError(
                f"the engine's memory_limit is too low: {said.splitlines()[0]}"
            ) from error
        is_full = isinstance(error, OSError) and error.errno in _FULL
        if not is_full and not any(part in said.lower() for part in _SAID_OF_FULL):
            raise
        raise StorageError(
            if_full or f"{folder} cannot be written, is the disk full? {said.splitlines()[0]}"
        ) from error

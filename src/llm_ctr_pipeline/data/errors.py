"""What is raised when the input, the settings or the machine are at fault rather than the code."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What engines and writers in other languages say of it, without a number.
_SAID_OF_FULL = ("could not write", "no space left on device")
_SAID_OF_MEMORY = "out of memory error"  # DuckDB


class RefusedError(Exception):
    """What cannot be done, for a reason that the message says in full, with what to do about it.

    All errors that this project raises on purpose are of this kind: `kedro run` shows their message
    in one line and no traceback.
    """


class RawLogError(RefusedError, ValueError):
    """A raw log that cannot be used; the message names file, column and row."""


class EncodedDataError(RefusedError, ValueError):
    """Encoded splits that do not belong together or cannot be trained and tested on."""


class SettingsError(RefusedError, ValueError):
    """Settings that do not go together, or not with what is there."""


class StorageError(RefusedError, OSError):
    """A place where nothing more can be written."""


class StoreError(RefusedError, OSError):
    """A store that cannot be reached, or did not do what it was asked to."""


class EngineMemoryError(RefusedError, MemoryError):
    """An engine whose memory limit does not suffice."""


@contextmanager
def told_if_short(place: object) -> Iterator[None]:
    """Turn what engines and the system raise for want of disk or memory into one kind of error.

    Args:
        place: The folder written to.

    Raises:
        StorageError: If the disk is full; the message names the place.
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
                f"the engine's memory_limit in globals.yml is too low: {said.splitlines()[0]}"
            ) from error
        is_full = isinstance(error, OSError) and error.errno in _FULL
        if not is_full and not any(part in said.lower() for part in _SAID_OF_FULL):
            raise
        raise StorageError(
            f"{place} cannot be written, is the disk full? {said.splitlines()[0]}"
        ) from error

"""What the system offers files: sync, names swapped in one step, locks of folders."""

import ctypes
import errno
import fcntl
import os
from pathlib import Path

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
# What a file system without locks says; network ones lock no folders.
_NO_LOCKS = (*_CANNOT, errno.EBADF, errno.ENOLCK)


def sync(path: Path) -> None:
    """Have the disk hold a file, or a folder with all that is in it, before anything else is done.

    Raises:
        OSError: If the disk fails or is full, which some file systems tell only here.
    """
    if path.is_dir():
        for inside in path.iterdir():
            sync(inside)
        sync_names(path)
    else:
        _sync(path)


def sync_names(folder: Path) -> None:
    """Have the disk hold which names are in a folder, as after a rename."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in _CANNOT:  # some network file systems have no such thing for folders
            raise


def exchange(one: Path, other: Path) -> bool:
    """Swap what lies under two names in one step, so that neither is ever without.

    Returns:
        Whether it was done: False where the system or the file system has no such step.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


def lock_folder(folder: Path) -> int | None:
    """Lock a folder until the descriptor is closed, or this process ends.

    Returns:
        The descriptor; None where the file system has no locks.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: It cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in _NO_LOCKS:
            return None
        raise
    return descriptor


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

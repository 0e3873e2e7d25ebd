"""Locks on the folders that a process reads and writes, which the system releases when it dies.

While a folder is in use, a file `.NAME.lock` lies beside it and says by whom. It lies beside and
not in it, since a folder may be replaced as a whole. Stores have no locks.
"""

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.storage.atomic import missing_folders

# Another process's lock may be there for a moment only, as while it looks whether it is alone.
_TRIES, _PAUSE = 20, 0.05


class InUseError(RefusedError):
    """Another process holds a lock on a folder."""


class FolderLocks:
    """The locks of this process; of its forks none."""

    def __init__(self) -> None:
        self._held: dict[Path, int] = {}
        self._made: list[Path] = []
        os.register_at_fork(after_in_child=self._forget)

    def take(self, folder: Path, *, write: bool) -> None:
        """Lock a folder until `release`, or for as long as this process lives.

        Where no lock file can be written, as in folders of other users, there is no lock.

        Args:
            folder: What to lock; one to write need not exist.
            write: Whether nobody else may read or write there; otherwise nobody may write.

        Raises:
            InUseError: If another process is in the way; the message says which.
            OSError: If the disk is full.
        """
        file = _lock_file(folder)
        if write:
            self._made += missing_folders(file.parent)
            with _denied_or_raised():
                file.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            descriptor = _open(file)
            if descriptor is None:
                return
            try:
                _lock(descriptor, write=write)
            except BlockingIOError:
                user = _last_user(descriptor)
                os.close(descriptor)
                time.sleep(_PAUSE)
            except OSError:  # a file system without locks
                os.close(descriptor)
                return
            else:
                if _is_at(descriptor, file):
                    self._held[file] = descriptor
                    return
                os.close(descriptor)  # who held it removed it after it was opened here
        raise InUseError(f"{folder} is in use by {user}: wait for its end, or stop it")

    def share(self, folder: Path) -> None:
        """Let others read a folder that was locked to be written."""
        descriptor = self._held.get(_lock_file(folder))
        if descriptor is not None:
            fcntl.flock(descriptor, fcntl.LOCK_SH)

    def release(self) -> None:
        """Release all locks, and remove the files of those that nobody else holds."""
        for file, descriptor in self._held.items():
            with suppress(OSError):  # others read there, or the file is another user's
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(descriptor, file):
                    file.unlink()
        for folder in self._made:
            with suppress(OSError):  # it holds something
                folder.rmdir()
        self._forget()

    def _forget(self) -> None:
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held, self._made = {}, []


def _lock_file(folder: Path) -> Path:
    folder = folder.resolve()
    return folder.parent / f".{folder.name}.lock"


def _open(file: Path) -> int | None:
    """Open a lock file, which is made if need be; None where there can be none."""
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):  # that of another user can be read
        with _denied_or_raised():
            return os.open(file, flags, 0o666)
    return None


@contextmanager
def _denied_or_raised() -> Iterator[None]:
    """Pass over that a file must not be written or is not there, and over nothing else."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
            raise


def _lock(descriptor: int, *, write: bool) -> None:
    """Lock an open file, and say in it who did.

    Raises:
        BlockingIOError: If another process is in the way.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if write:
            raise
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    else:
        with suppress(OSError):  # another user's
            os.ftruncate(descriptor, 0)  # who wrote there is gone
    since = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    line = "\t".join((str(os.getpid()), socket.gethostname(), since, _command())) + "\n"
    with suppress(OSError):
        os.lseek(descriptor, 0, os.SEEK_END)
        os.write(descriptor, line.encode())
    if not write:
        fcntl.flock(descriptor, fcntl.LOCK_SH)


def _command() -> str:
    """How this process was called, but for `--params`, which may hold a password."""
    words = [Path(sys.argv[0]).name]
    for word in sys.argv[1:]:
        is_value = words[-1] == "--params"
        words.append("…" if is_value else "--params=…" if word.startswith("--params=") else word)
    return " ".join(" ".join(words).split())


def _last_user(descriptor: int) -> str:
    """Describe the last process that said that it uses a folder, of those that may live."""
    content = os.pread(descriptor, 1_000_000, 0).decode(errors="replace")
    for line in reversed(content.splitlines()):
        pid, _, rest = line.partition("\t")
        host, _, rest = rest.partition("\t")
        since, _, command = rest.partition("\t")
        if host != socket.gethostname() or lives(pid):
            return f"another run (process {pid} on {host} since {since}: {command})"
    return "another run"


def lives(pid: str | int) -> bool:
    """Whether a process of this machine has this number."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _is_at(descriptor: int, file: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False

"""What a command takes: wall time, CPU time and memory of all its processes together."""

import os
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PAUSE = 0.1


@dataclass(frozen=True)
class Usage:
    """What one run of a command took.

    Attributes:
        seconds: Wall time.
        cpu_seconds: CPU time of all its processes.
        peak_gib: Most memory of all its processes at one time; what several share counts once.
    """

    seconds: float
    cpu_seconds: float
    peak_gib: float


def measure(command: Sequence[str | Path], environment: Mapping[str, str], folder: Path) -> Usage:
    """Run a command to its end; Linux only.

    Args:
        command: The program and its arguments.
        environment: Variables besides this process's own.
        folder: Where it runs.

    Raises:
        RuntimeError: If it fails; the message ends with the last of what it printed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603
        [*map(str, command)],
        env={**os.environ, **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watch = _Watch(process.pid)
    watch.start()
    printed, _ = process.communicate()
    seconds = time.perf_counter() - start
    watch.stop()
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}:\n{printed[-2000:]}")
    return Usage(seconds, sum(watch.cpu_seconds.values()), watch.peak_bytes / 2**30)


class _Watch(threading.Thread):
    """Adds up what a process and its descendants take, again and again.

    A parent that does not wait for its children (Ray's) loses their CPU time, so each
    process is looked at while it lives; what it does after the last look is not counted.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self.cpu_seconds: dict[int, float] = {}
        self._pid = pid
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(_PAUSE):
            tree = _tree(self._pid)
            self.peak_bytes = max(self.peak_bytes, sum(map(_memory, tree)))
            self.cpu_seconds |= {
                pid: cpu_seconds(pid, self.cpu_seconds.get(pid, 0.0)) for pid in tree
            }

    def stop(self) -> None:
        self._over.set()
        self.join()


def _tree(pid: int) -> list[int]:
    """A process and its descendants, as far as they still are."""
    found = [pid]
    for process in found:  # grows as it goes
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text().split()]
            except OSError:
                continue
    return found


def _memory(pid: int) -> int:
    """Proportional set size in bytes: a page that n processes share counts 1/n for each."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def cpu_seconds(pid: int, before: float = 0.0) -> float:
    """CPU time of a process so far, or what it was when last seen."""
    try:
        # After the program's name in parentheses, which may hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return before
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

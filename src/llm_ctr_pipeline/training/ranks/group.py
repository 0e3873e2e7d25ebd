"""The processes that torchrun started for this run, and what they tell each other.

A process that was started alone is a group of one, in which nothing is sent.
"""

import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.storage.locks import lives

# In which torchrun sees that a rank has ended; it kills the others half a minute later.
SECONDS_TO_END = 5
# In which it then sends the others a SIGTERM: where that is noted only, the run ends as failed.
SECONDS_TO_SIGNAL = 1
# What gloo and NCCL say where a connection ended.
_OF_LOST_RANKS = re.compile(r"peer|connection|socket|broken pipe|NCCL|timed? ?out", re.IGNORECASE)


class LostRankError(RefusedError, ConnectionError):
    """Another process of the run has ended, or cannot be reached."""


@dataclass(frozen=True)
class Ranks:
    """Where this process stands in its group.

    Attributes:
        index: Its number r in the group; that of the leader is 0.
        count: How many processes N the group has.
        local_index: Its number on its machine.
        local_count: How many of the group are on its machine.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0
    local_count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process runs the nodes and writes what comes of them."""
        return self.index == 0

    def own(self, rows: int, at_once: int = 1) -> slice:
        """The rows that are this process's, next to each other, of so many; perhaps none.

        Args:
            rows: Rows to share out.
            at_once: Rows that must stay together, as in one batch of a scoring.
        """
        lots = -(-rows // at_once)
        start, stop = (lots * r // self.count * at_once for r in (self.index, self.index + 1))
        return slice(start, min(stop, rows))

    def largest(self, *numbers: int) -> list[int]:
        """Of each number the largest that any process gave, the same in all of them."""
        if self.count == 1:
            return [*numbers]
        given = torch.tensor(numbers)
        with naming_lost_ranks():
            dist.all_reduce(given, dist.ReduceOp.MAX, group=_GROUP.control)
        return [int(number) for number in given]

    def all_of(self, content: Any) -> list[Any]:
        """What each process gave, by rank, in all of them."""
        if self.count == 1:
            return [content]
        given: list[Any] = [None] * self.count
        with naming_lost_ranks():
            dist.all_gather_object(given, content, group=_GROUP.control)
        return given

    def to_leader(self, content: Any) -> list[Any]:
        """What each process gave, by rank, in the leader; in the others nothing."""
        if self.count == 1:
            return [content]
        given: list[Any] | None = [None] * self.count if self.leads else None
        with naming_lost_ranks():
            dist.gather_object(content, given, group=_GROUP.control)
        return given or []

    def of_leader(self, content: Any) -> Any:
        """What the leader gave, in all processes."""
        if self.count == 1:
            return content
        sent = [content]
        with naming_lost_ranks():
            dist.broadcast_object_list(sent, group=_GROUP.control)
        return sent[0]

    def dealt(self, contents: Sequence[Any] | None) -> Any:
        """Of what the leader gave for each rank, this process's."""
        if self.count == 1:
            assert contents is not None  # noqa: S101 - it leads
            return contents[0]
        own = [None]
        with naming_lost_ranks():
            given = None if contents is None else [*contents]
            dist.scatter_object_list(own, given, group=_GROUP.control)
        return own[0]

    def copy_from_leader(self, tensors: Sequence[torch.Tensor]) -> None:
        """Fill tensors with the leader's of the same shapes, wherever they lie there."""
        if self.count == 1:
            return
        with naming_lost_ranks():
            for tensor in tensors:
                on_cpu = tensor.detach().cpu().contiguous()
                dist.broadcast(on_cpu, 0, group=_GROUP.control)
                if not self.leads:
                    tensor.data.copy_(on_cpu)


@dataclass
class _Group:
    """The group of this process; what torch.distributed has one of a process, too."""

    ranks: Ranks = Ranks()
    store: Store | None = None
    control: dist.ProcessGroup | None = None
    processes: tuple[tuple[str, int], ...] = ()


_GROUP = _Group()


def ranks() -> Ranks:
    """Where this process stands in its group."""
    return _GROUP.ranks


def store() -> Store:
    """What all processes of the group read and write by key."""
    assert _GROUP.store is not None  # noqa: S101 - of a group of several
    return _GROUP.store


def join() -> Ranks:
    """Meet the other processes that torchrun started."""
    named = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    now = Ranks(*(int(os.environ[name]) for name in named))
    waiting = timedelta(minutes=30)  # for each other; the leader may be writing a state
    store, rank, count = next(rendezvous("env://", timeout=waiting))
    # Where torchrun starts all of them again, it may hand out the store of those that ended.
    store = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    has_gpu = torch.cuda.is_available() and now.local_index < torch.cuda.device_count()
    if has_gpu:
        torch.cuda.set_device(now.local_index)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if has_gpu else "gloo",
        store=store,
        rank=rank,
        world_size=count,
        timeout=waiting,
    )
    _GROUP.ranks, _GROUP.store = now, store
    # gloo's, which needs no GPU and tells which process it does not reach.
    _GROUP.control = dist.new_group(backend="gloo", timeout=waiting)
    _GROUP.processes = tuple(now.all_of((socket.gethostname(), os.getpid())))
    return now


def leave() -> None:
    """End what `join` began."""
    _GROUP.ranks, _GROUP.store, _GROUP.control = Ranks(), None, None
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def naming_lost_ranks() -> Iterator[None]:
    """Turn what PyTorch says of a connection that ended into an error that says whose it was.

    Raises:
        LostRankError: In place of PyTorch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if _GROUP.ranks.count == 1 or isinstance(error, RefusedError):
            raise
        if not _OF_LOST_RANKS.search(str(error)):
            raise
        lost = _ended_here()
        said = [f"rank {rank} (process {_GROUP.processes[rank][1]})" for rank in lost]
        raise LostRankError(
            f"{' and '.join(said) or 'a rank of another machine'} of the {_GROUP.ranks.count} of "
            "this run has ended, or is no longer reached: what it wrote says why, if it was not "
            "killed. The same command goes on from the last state that was kept"
        ) from error


def _ended_here() -> list[int]:
    """The other ranks of this machine that have ended; none if none does within seconds."""
    host = socket.gethostname()
    pids = {rank: pid for rank, (at, pid) in enumerate(_GROUP.processes) if at == host}
    until = time.monotonic() + SECONDS_TO_END
    # Until torchrun has waited for it, a process that was killed still counts as one.
    while time.monotonic() < until:
        if ended := [rank for rank, pid in pids.items() if not lives(pid)]:
            time.sleep(SECONDS_TO_SIGNAL)
            return ended
        time.sleep(0.01)
    return []


def leader_lives() -> bool:
    """Whether the leader has not ended, as far as this machine can tell."""
    host, pid = _GROUP.processes[0]
    return host != socket.gethostname() or lives(pid)

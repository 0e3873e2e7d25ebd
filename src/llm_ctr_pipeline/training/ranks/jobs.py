"""What the leader has the other ranks do, and their waiting for it."""

import copy
import logging
import pickle
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Protocol

import rich
import torch
import torch.distributed as dist
from torch import Tensor, nn

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.training.ranks import group
from llm_ctr_pipeline.training.ranks.group import LostRankError

# Between two looks whether there is something to do, in seconds.
PAUSE = 0.01
# In which the leader, which mostly finds the same fault, can end the run before a rank does.
SECONDS_FOR_LEADER = 5
# That a rank which lost the others lives on, so that it is not taken for the one that ended.
SECONDS_WITHOUT_GROUP = 20
WORK, END = "work", "end"

_numbers = count()


class Job(Protocol):
    """Something that all ranks do together."""

    @property
    def models(self) -> Sequence[nn.Module]:
        """The models in it, whose weights are sent apart."""

    def run(self, kept: Any) -> Any:
        """Do a rank's share; `kept` is what its job before gave, this one's is for the next."""


def share(job: Job) -> None:
    """Let the other ranks do a job, of which the leader does its share by itself.

    In a group of one nobody is told.
    """
    ranks = group.ranks()
    if ranks.count == 1:
        return
    group.store().set(_key(next(_numbers)), WORK)
    weights = _weights(job)
    # Beside the weights a job is small: in the copy that is pickled a number stands for each.
    memo = {id(weight): _placeholder(weight) for weight in weights}
    ranks.of_leader(pickle.dumps(copy.deepcopy(job, memo)))
    ranks.copy_from_leader(weights)


@contextmanager
def leading() -> Iterator[None]:
    """Lead the ranks: they wait for jobs, and are let go at the end."""
    group.join()
    try:
        yield
    finally:
        group.store().set(_key(next(_numbers)), END)
    group.leave()


def work() -> None:
    """Do this rank's share of all jobs, until the leader lets it go."""
    ranks = group.join()
    rich.reconfigure(quiet=True)  # the leader tells
    logging.disable(logging.WARNING)
    kept: Any = None
    try:
        while (job := _next_job()) is not None:
            kept = job.run(kept)
    except (LostRankError, dist.DistError):
        group.leave()  # so that the others notice
        until = time.monotonic() + SECONDS_WITHOUT_GROUP
        while time.monotonic() < until and group.leader_lives():  # which tells of it
            time.sleep(PAUSE)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        time.sleep(SECONDS_FOR_LEADER)
        said = str(error) if isinstance(error, RefusedError) else traceback.format_exc()
        sys.exit(f"Error in rank {ranks.index}: {said}")
    group.leave()


def _next_job() -> Job | None:
    """Wait for the leader; None where it lets this rank go."""
    key = _key(next(_numbers))
    while not group.store().check([key]):  # in turns: a wait within PyTorch heeds no signal
        time.sleep(PAUSE)
    if group.store().get(key).decode() == END:
        return None
    job: Job = pickle.loads(group.ranks().of_leader(None))  # noqa: S301 - the leader's
    weights = _weights(job)
    for weight in weights:
        weight.data = torch.empty(weight.shape, dtype=weight.dtype)
    group.ranks().copy_from_leader(weights)
    return job


def _key(number: int) -> str:
    return f"llm_ctr_pipeline/job/{number}"


def _weights(job: Job) -> list[Tensor]:
    """All weights and buffers of a job's models, each once."""
    tensors = (t for model in job.models for t in (*model.parameters(), *model.buffers()))
    return [*{id(tensor): tensor for tensor in tensors}.values()]


def _placeholder(weight: Tensor) -> Tensor:
    """A tensor of the same shape and kind that holds a single number."""
    shown = torch.zeros((), dtype=weight.dtype).expand(weight.shape)
    if isinstance(weight, nn.Parameter):
        return nn.Parameter(shown, requires_grad=weight.requires_grad)
    return shown

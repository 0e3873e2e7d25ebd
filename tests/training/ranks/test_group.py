"""What a process knows of its group; that several do as one is in `test_jobs.py`."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch

from llm_ctr_pipeline.training.ranks import group
from llm_ctr_pipeline.training.ranks.group import LostRankError, Ranks, naming_lost_ranks, ranks


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """This process leads another one, which is there no more when a connection has ended."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here = socket.gethostname()
    processes = ((here, os.getpid()), (here, other.pid))
    monkeypatch.setattr(group, "_GROUP", group._Group(Ranks(0, 2), processes=processes))
    monkeypatch.setattr(group, "SECONDS_TO_SIGNAL", 0)
    monkeypatch.setattr(group, "SECONDS_TO_END", 0.1)
    yield other
    other.kill()
    other.communicate()


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("rows", [0, 1, 3, 4, 5, 16, 17, 100])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_rows_are_shared_out_in_order_and_evenly(rows: int, count: int, at_once: int) -> None:
    shares = [Ranks(index, count).own(rows, at_once) for index in range(count)]
    assert [row for share in shares for row in range(rows)[share]] == [*range(rows)]
    assert all(share.start % at_once == 0 for share in shares)
    assert all(share.stop == following.start for share, following in pairwise(shares) if share.stop)
    lots = [-(-len(range(rows)[share]) // at_once) for share in shares]
    assert max(lots) - min(lots) <= 1


def test_a_process_that_was_started_alone_tells_nobody() -> None:
    here = ranks()
    tensor = torch.ones(2)
    here.copy_from_leader([tensor])
    assert here.leads
    assert here == Ranks()
    assert here.largest(3, False) == [3, 0]
    assert here.all_of("it") == here.to_leader("it") == ["it"]
    assert here.of_leader("it") == here.dealt(["it"]) == "it"
    assert torch.equal(tensor, torch.ones(2))


def test_a_rank_that_ended_is_named(two_ranks: subprocess.Popen[bytes]) -> None:
    two_ranks.kill()
    two_ranks.wait()
    told = rf"rank 1 \(process {two_ranks.pid}\) of the 2 of this run has ended"
    with pytest.raises(LostRankError, match=told), naming_lost_ranks():
        raise RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:1234")


def test_where_all_ranks_of_the_machine_live_another_machines_has_ended(
    two_ranks: subprocess.Popen[bytes],
) -> None:
    with pytest.raises(LostRankError, match="a rank of another machine"), naming_lost_ranks():
        raise RuntimeError("NCCL communicator was aborted")


def test_other_errors_stay_as_they_are(two_ranks: subprocess.Popen[bytes]) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), naming_lost_ranks():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_alone_no_error_is_of_a_lost_rank() -> None:
    with pytest.raises(RuntimeError, match="Connection closed"), naming_lost_ranks():
        raise RuntimeError("Connection closed by peer")

"""Batches of rows in memory: each row once, in an order that seed and epoch alone fix."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from llm_ctr_pipeline.data.input.batches import EncodedSplit, with_known_ids

CPU = torch.device("cpu")
ROWS = 100


@pytest.fixture
def split() -> EncodedSplit:
    """Rows whose first field is their number, and whose label says whether that is odd."""
    numbers_N = torch.arange(ROWS, dtype=torch.int32)
    return EncodedSplit(torch.stack([numbers_N, numbers_N % 7], dim=1), (numbers_N % 2).float())


def order(split: EncodedSplit, size: int = 8, **which: int) -> list[int]:
    """The rows' numbers as their batches come."""
    batches = split.batches(size, **({"seed": 1, "epoch": 0} | which), device=CPU)
    return [number for ids_BF, _ in batches for number in ids_BF[:, 0].tolist()]


def test_an_arrow_table_gives_fields_in_the_order_asked_for() -> None:
    table = pa.table(
        {
            "a": np.array([1, 2, 3], dtype=np.int32),
            "label": np.array([0, 1, 1], dtype=np.int8),
            "b": np.array([4, 5, 6], dtype=np.int32),
        }
    )
    split = EncodedSplit.from_arrow(table, ["b", "a"])
    assert split.ids_NF.tolist() == [[4, 1], [5, 2], [6, 3]]
    assert split.labels_N.tolist() == [0.0, 1.0, 1.0]
    assert (split.ids_NF.dtype, split.labels_N.dtype) == (torch.int32, torch.float32)


@pytest.mark.parametrize("size", [1, 8, 33, 1000])
def test_every_row_is_in_one_batch_with_its_own_fields_and_label(
    split: EncodedSplit, size: int
) -> None:
    batches = list(split.batches(size, seed=1, epoch=0, device=CPU))
    assert [len(labels_B) for _, labels_B in batches[:-1]] == [size] * (len(batches) - 1)
    assert sorted(order(split, size)) == [*range(ROWS)]
    for ids_BF, labels_B in batches:
        assert torch.equal(ids_BF[:, 1], ids_BF[:, 0] % 7)
        assert torch.equal(labels_B, (ids_BF[:, 0] % 2).float())


def test_seed_and_epoch_alone_fix_the_order(split: EncodedSplit) -> None:
    given = order(split)
    torch.manual_seed(77)
    assert order(split) == order(split, size=13) == given != [*range(ROWS)]
    others = [order(split, seed=2), order(split, epoch=1), order(split, seed=2, epoch=1)]
    assert len({tuple(found) for found in (given, *others)}) == 4


@pytest.mark.parametrize("skip", [0, 1, 12, 13, 20])
def test_batches_left_out_are_the_first_ones(split: EncodedSplit, skip: int) -> None:
    assert order(split, skip=skip) == order(split)[8 * skip :]


def test_ids_that_a_map_lacks_become_unknown() -> None:
    rows = EncodedSplit(torch.tensor([[0, 5], [3, 4], [2, 9]], dtype=torch.int32), torch.zeros(3))
    known = with_known_ids(rows, [3, 5])
    assert known.ids_NF.tolist() == [[0, 0], [0, 4], [2, 0]]
    assert known.ids_NF.dtype == torch.int32
    assert rows.ids_NF.tolist() == [[0, 5], [3, 4], [2, 9]]

"""Encoded rows in memory, and the batches that training and scoring take from them.

Shape legend: N rows of a split, B rows of a batch, F fields.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from llm_ctr_pipeline.data.schema import LABEL, ROW

if TYPE_CHECKING:  # a machine that only trains needs no Ibis
    import ibis.expr.types as ir


@dataclass(frozen=True)
class EncodedSplit:
    """A split as two tensors.

    Attributes:
        ids_NF: Ids within each field, int32, `[N, F]`.
        labels_N: 1 for a click, 0 for none, float32, `[N]`.
    """

    ids_NF: Tensor
    labels_N: Tensor

    @classmethod
    def from_arrow(cls, table: pa.Table, fields: Sequence[str]) -> "EncodedSplit":
        """Take the columns `label` and `fields` of an Arrow table, in this order of fields."""
        ids_NF = np.empty((table.num_rows, len(fields)), dtype=np.int32)
        for position, field in enumerate(fields):
            ids_NF[:, position] = table[field].to_numpy()
        labels_N = table[LABEL].to_numpy().astype(np.float32)
        return cls(torch.from_numpy(ids_NF), torch.from_numpy(labels_N))

    def __len__(self) -> int:
        return len(self.labels_N)

    def to(self, device: torch.device) -> "EncodedSplit":
        """The same rows on another device."""
        return EncodedSplit(self.ids_NF.to(device), self.labels_N.to(device))

    def take(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """Ids `[B, F]` and labels `[B]` of some rows, int64 `[B]`."""
        return self.ids_NF[rows_B], self.labels_N[rows_B]


def read_split(rows: "ir.Table", fields: Sequence[str]) -> EncodedSplit:
    """Read an encoded split into memory, in its rows' order.

    Args:
        rows: Columns `row`, `label` and `fields`.
        fields: The fields in order.
    """
    return EncodedSplit.from_arrow(rows.order_by(ROW).to_pyarrow(), fields)


def shuffled_batches(
    rows: int, batch_size: int, seed: int, epoch: int, device: torch.device
) -> Iterator[Tensor]:
    """Row numbers of one epoch's batches, in an order that the seed and the epoch alone fix.

    Args:
        rows: Rows N of the split; each is in exactly one batch.
        batch_size: Rows B of a batch; the last may be smaller.
        seed: Seed of the run.
        epoch: Epoch, from 0.
        device: Where the row numbers are wanted.

    Yields:
        int64, `[B]`.
    """
    # Drawn on the CPU, so that every device sees the same order.
    generator = torch.Generator().manual_seed(seed + 1_000_003 * epoch)
    order_N = torch.randperm(rows, generator=generator).to(device)
    yield from torch.split(order_N, batch_size)

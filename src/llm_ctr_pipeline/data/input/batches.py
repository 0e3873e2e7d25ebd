"""Encoded rows in memory, and the batches that training and scoring take from them.

Shape legend: N rows of a split, B rows of a batch, F fields.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from llm_ctr_pipeline.data.log.schema import LABEL

Batch = tuple[Tensor, Tensor]


class TrainingRows(Protocol):
    """Rows to train on, wherever they lie."""

    def __len__(self) -> int:
        """Rows N of the split."""

    def batches(
        self, batch_size: int, seed: int, epoch: int, device: torch.device, skip: int = 0
    ) -> Iterator[Batch]:
        """Batches of one epoch, in an order that the seed and the epoch alone fix.

        Args:
            batch_size: Rows B of a batch; the last may be smaller. Each row is in one batch.
            seed: Seed of the run.
            epoch: Epoch, from 0.
            device: Where the batches are wanted.
            skip: First batches to leave out, as an interrupted run has them behind it.

        Yields:
            Ids within each field, int32 `[B, F]`, and labels, float32 `[B]`.
        """


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

    def take(self, rows_B: Tensor) -> Batch:
        """Ids `[B, F]` and labels `[B]` of some rows, int64 `[B]`."""
        return self.ids_NF[rows_B], self.labels_N[rows_B]

    def batches(
        self, batch_size: int, seed: int, epoch: int, device: torch.device, skip: int = 0
    ) -> Iterator[Batch]:
        """Batches of one epoch, in random order over the whole split; see `TrainingRows`."""
        lie_on = self.ids_NF.device
        for rows_B in shuffled_batches(len(self), batch_size, seed, epoch, lie_on, skip):
            yield move(self.take(rows_B), device)


def shuffled_batches(
    rows: int, batch_size: int, seed: int, epoch: int, device: torch.device, skip: int = 0
) -> Iterator[Tensor]:
    """Row numbers of one epoch's batches, int64 `[B]`; arguments as in `TrainingRows.batches`."""
    # Drawn on the CPU, so that every device sees the same order.
    order_N = torch.randperm(rows, generator=generator(seed, epoch))[skip * batch_size :]
    if len(order_N) > 0:
        yield from torch.split(order_N.to(device), batch_size)


def with_known_ids(split: EncodedSplit, sizes: Sequence[int]) -> EncodedSplit:
    """The split with id 0, "unknown", for ids beyond a feature map's `sizes`, its ids by field."""
    is_known_NF = split.ids_NF < torch.tensor(sizes, dtype=split.ids_NF.dtype)
    return EncodedSplit(torch.where(is_known_NF, split.ids_NF, 0), split.labels_N)


def generator(seed: int, epoch: int) -> torch.Generator:
    """A random generator of the CPU's that the seed and the epoch alone fix."""
    return torch.Generator().manual_seed(seed + 1_000_003 * epoch)


def move(batch: Batch, device: torch.device) -> Batch:
    """Bring a batch to a device without making the host wait."""
    if batch[0].device == device or device.type != "cuda":
        return batch[0].to(device), batch[1].to(device)
    # Copies from pageable memory would wait for the device's queue.
    ids_BF, labels_B = (tensor.pin_memory().to(device, non_blocking=True) for tensor in batch)
    return ids_BF, labels_B

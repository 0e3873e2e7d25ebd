"""An encoded split on disk: read whole, or streamed in shuffled row groups.

Shape legend: N rows of a split, B rows of a batch, F fields.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch

from llm_ctr_pipeline.data.errors import StaleDataError
from llm_ctr_pipeline.data.features.dataset_summary import SplitSummary
from llm_ctr_pipeline.data.input.batches import Batch, EncodedSplit, TrainingRows, generator, move
from llm_ctr_pipeline.data.log.schema import LABEL, ROW
from llm_ctr_pipeline.data.storage.store_path import AnyPath, parquet_file, parts_of

# Of the machine's free memory, what training rows held whole may take.
SHARE_OF_MEMORY = 0.5

Where = Literal["auto", "memory", "stream"]


@dataclass(frozen=True)
class RowGroup:
    """A row group.

    Attributes:
        part: The Parquet file.
        index: Its number in the file.
        rows: How many rows it has.
    """

    part: AnyPath
    index: int
    rows: int


@dataclass(frozen=True)
class EncodedFile:
    """An encoded split as preprocessing wrote it.

    Attributes:
        path: A Parquet file, or a folder of them, as Spark writes it, whose names are in the rows'
            order.
    """

    path: AnyPath

    @cached_property
    def row_groups(self) -> tuple[RowGroup, ...]:
        """All row groups in order; looked up once."""
        groups = []
        for part in parts_of(self.path):
            with parquet_file(part) as file:
                groups += [
                    RowGroup(part, index, file.metadata.row_group(index).num_rows)
                    for index in range(file.metadata.num_row_groups)
                ]
        return tuple(groups)

    def __len__(self) -> int:
        return sum(group.rows for group in self.row_groups)

    def read(self, fields: Sequence[str]) -> EncodedSplit:
        """Read the split into memory, in its rows' order; fields in the order given."""
        rows = len(self)
        ids_NF = np.empty((rows, len(fields)), dtype=np.int32)
        labels_N = np.empty(rows, dtype=np.float32)
        number_N = np.empty(rows, dtype=np.int64)
        start = 0
        # In batches: the table as Arrow holds it beside ours would take twice the memory.
        for batch in self._batches([ROW, LABEL, *fields]):
            span = slice(start, start + batch.num_rows)
            number_N[span] = batch.column(ROW)
            labels_N[span] = batch.column(LABEL)
            for position, field in enumerate(fields):
                ids_NF[span, position] = batch.column(field)
            start += batch.num_rows
        if np.any(number_N[1:] < number_N[:-1]):
            order = np.argsort(number_N, kind="stable")
            ids_NF, labels_N = ids_NF[order], labels_N[order]
        return EncodedSplit(torch.from_numpy(ids_NF), torch.from_numpy(labels_N))

    def open(self, fields: Sequence[str], where: Where, buffer_rows: int) -> TrainingRows:
        """Open the split to train on it.

        Args:
            fields: The fields in order.
            where: `memory` reads it whole, `stream` a buffer at a time; `auto` reads it whole if
                that takes less than half of the machine's free memory.
            buffer_rows: Rows that are shuffled together where it is streamed.
        """
        needed = len(self) * (len(fields) + 1) * np.dtype(np.int32).itemsize
        if where == "memory" or (where == "auto" and needed < SHARE_OF_MEMORY * free_memory()):
            return self.read(fields)
        return StreamedSplit(self, tuple(fields), buffer_rows)

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        for part in parts_of(self.path):
            with parquet_file(part) as file:
                yield from file.iter_batches(columns=columns)


@dataclass(frozen=True)
class StreamedSplit:
    """A split larger than memory: random row groups are read into a buffer and shuffled there.

    Every epoch takes the row groups in another random order. Some of them fill the buffer, its
    rows are shuffled and handed out, while the next are being read. Rows of one row group thus
    meet those of other, random ones, but not of all: with a buffer as large as the split the
    order is random over all rows.

    Attributes:
        file: Where the rows lie.
        fields: The fields in order.
        buffer_rows: Rows that are shuffled together; two such buffers are held.
    """

    file: EncodedFile
    fields: tuple[str, ...]
    buffer_rows: int

    def __len__(self) -> int:
        return len(self.file)

    def batches(
        self, batch_size: int, seed: int, epoch: int, device: torch.device, skip: int = 0
    ) -> Iterator[Batch]:
        """Batches of one epoch, in the order described above; see `TrainingRows`."""
        random = generator(seed, epoch)
        rest: EncodedSplit | None = None
        passed = 0
        for pool in self._read_ahead(self._pools(random)):
            rows = pool if rest is None else _joined(rest, pool)
            full = len(rows) - len(rows) % batch_size
            order_N = torch.randperm(len(rows), generator=random)
            for rows_B in torch.split(order_N[:full], batch_size) if full else ():
                passed += 1
                if passed > skip:
                    yield move(rows.take(rows_B), device)
            rest = EncodedSplit(*rows.take(order_N[full:]))
        if rest is not None and len(rest) > 0 and passed >= skip:
            yield move((rest.ids_NF, rest.labels_N), device)

    def _pools(self, random: torch.Generator) -> list[list[RowGroup]]:
        """The row groups in random order, by the buffer that they fill."""
        groups = self.file.row_groups
        pools: list[list[RowGroup]] = [[]]
        filled = 0
        for position in torch.randperm(len(groups), generator=random).tolist():
            if filled >= self.buffer_rows:
                pools.append([])
                filled = 0
            pools[-1].append(groups[position])
            filled += groups[position].rows
        return pools

    def _read_ahead(self, pools: list[list[RowGroup]]) -> Iterator[EncodedSplit]:
        """Read each pool while the one before it is being used."""
        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = reader.submit(self._read, pools[0])
            for groups in pools[1:]:
                following = reader.submit(self._read, groups)
                yield coming.result()
                coming = following
            yield coming.result()

    def _read(self, groups: list[RowGroup]) -> EncodedSplit:
        pieces = []
        for group in groups:
            with parquet_file(group.part) as file:
                table = file.read_row_group(group.index, columns=[LABEL, *self.fields])
            pieces.append(EncodedSplit.from_arrow(table, self.fields))
        return _joined(*pieces)


def check_counted(rows: EncodedSplit, fields: Sequence[str], summary: SplitSummary) -> None:
    """Refuse rows that are not those which a summary counted.

    A run that was cut off may have replaced them, and not yet the summary, which is written last.

    Raises:
        StaleDataError: If rows, clicks or the unknown ids of a field are more or fewer.
    """
    unknown = len(rows) - rows.ids_NF.count_nonzero(dim=0)
    found = [len(rows), int(rows.labels_N.sum(dtype=torch.float64)), *unknown.tolist()]
    shares = [summary.unknown_share_by_field[field] for field in fields]
    counted = [round(share * summary.rows) for share in shares]
    if found != [summary.rows, summary.clicks, *counted]:
        raise StaleDataError(
            "the encoded rows are not those that the summary beside them counted: preprocessing "
            "was interrupted"
        )


def _joined(*pieces: EncodedSplit) -> EncodedSplit:
    return EncodedSplit(
        torch.cat([piece.ids_NF for piece in pieces]),
        torch.cat([piece.labels_N for piece in pieces]),
    )


def free_memory() -> int:
    """Bytes of main memory that a process could still take, as Linux estimates it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kibibytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return int(kibibytes) * 1024

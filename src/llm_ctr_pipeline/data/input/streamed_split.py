"""An encoded split to train on: held whole, or streamed in shuffled row groups.

Shape legend: N rows, B rows of a batch.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from llm_ctr_pipeline.data.errors import EncodedDataError
from llm_ctr_pipeline.data.features.dataset_summary import SplitSummary
from llm_ctr_pipeline.data.input.batches import Batch, EncodedSplit, TrainingRows, generator, move
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile, RowGroup, Where, told_if_damaged
from llm_ctr_pipeline.data.log.schema import LABEL
from llm_ctr_pipeline.data.storage.memory import free_memory
from llm_ctr_pipeline.data.storage.store_path import parquet_file

# Of the machine's free memory, what training rows held whole may take.
SHARE_OF_MEMORY = 0.5


def open_rows(
    file: EncodedFile,
    fields: Sequence[str],
    where: Where,
    buffer_rows: int,
    counted: SplitSummary,
    copies: int = 1,
) -> TrainingRows:
    """Open a split to train on it.

    Args:
        file: Where its rows lie.
        fields: See `EncodedFile.read`.
        where: `memory` reads it whole, `stream` a buffer at a time; `auto` reads it whole if that
            takes less than half of the machine's free memory.
        buffer_rows: Rows that are shuffled together where it is streamed.
        counted: See `EncodedFile.read`.
        copies: Processes of this machine that will each hold it.

    Raises:
        StaleDataError: See `EncodedFile.read`; before any row is handed out.
    """
    needed = copies * len(file) * (len(fields) + 1) * torch.int32.itemsize
    if where == "memory" or (where == "auto" and needed < SHARE_OF_MEMORY * free_memory()):
        return file.read(fields, counted)
    file.look_through(fields, counted)
    return StreamedSplit(file, tuple(fields), buffer_rows)


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
            with told_if_damaged(group.part), parquet_file(group.part) as file:
                # Once it is open, what takes its place is no longer read.
                _check_unchanged(group)
                table = file.read_row_group(group.index, columns=[LABEL, *self.fields])
            pieces.append(EncodedSplit.from_arrow(table, self.fields))
        return _joined(*pieces)


def _check_unchanged(group: RowGroup) -> None:
    if group.part.stat().st_mtime_ns != group.changed:
        raise EncodedDataError(
            f"{group.part} was replaced while its rows were being trained on: train again, and let "
            "no preprocessing run meanwhile"
        )


def _joined(*pieces: EncodedSplit) -> EncodedSplit:
    return EncodedSplit(
        torch.cat([piece.ids_NF for piece in pieces]),
        torch.cat([piece.labels_N for piece in pieces]),
    )

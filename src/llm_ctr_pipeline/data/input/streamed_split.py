"""An encoded split that is streamed in shuffled row groups.

Shape legend: N rows, B rows of a batch.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from llm_ctr_pipeline.data.errors import EncodedDataError
from llm_ctr_pipeline.data.input.batches import Batch, EncodedSplit, generator, move
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile, RowGroup, told_if_damaged
from llm_ctr_pipeline.data.log.schema import LABEL
from llm_ctr_pipeline.data.storage.store_path import parquet_file


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

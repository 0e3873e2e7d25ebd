"""An encoded split on disk.

Shape legend: N rows of a split, F fields.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from llm_ctr_pipeline.data.errors import RefusedError, StaleDataError, first_line
from llm_ctr_pipeline.data.features.dataset_summary import SplitSummary
from llm_ctr_pipeline.data.features.rows_digest import PowerSums, as_text, joined, power_sums
from llm_ctr_pipeline.data.log.schema import LABEL, ROW
from llm_ctr_pipeline.data.storage.ordered_map import in_order
from llm_ctr_pipeline.data.storage.store_path import AnyPath, parquet_file, parts_of

if TYPE_CHECKING:  # it brings PyTorch along, and preprocessing names its files without
    from llm_ctr_pipeline.data.input.batches import EncodedSplit

# Read and summed at a time: few enough for a processor's cache.
_BATCH_ROWS = 16_384
# Of those that look through a split before it is streamed.
_THREADS = 4

Where = Literal["auto", "memory", "stream"]


@dataclass(frozen=True)
class RowGroup:
    """A row group.

    Attributes:
        part: The Parquet file.
        changed: When that was changed last, in nanoseconds.
        index: Its number in the file.
        rows: How many rows it has.
    """

    part: AnyPath
    changed: int
    index: int
    rows: int


@dataclass(frozen=True, repr=False)
class EncodedFile:
    """An encoded split as preprocessing wrote it.

    Whoever reads it says what it should hold: rows are the summary's, or they are refused.

    Attributes:
        path: A Parquet file, or a folder of them, as Spark writes it, whose names are in the rows'
            order.
    """

    path: AnyPath

    @cached_property
    def row_groups(self) -> tuple[RowGroup, ...]:
        """All row groups in order; looked up once.

        Raises:
            StaleDataError: A file is damaged.
        """
        groups = []
        for part in parts_of(self.path):
            with told_if_damaged(part), parquet_file(part) as file:
                changed = part.stat().st_mtime_ns
                groups += [
                    RowGroup(part, changed, index, file.metadata.row_group(index).num_rows)
                    for index in range(file.metadata.num_row_groups)
                ]
        return tuple(groups)

    def __len__(self) -> int:
        return sum(group.rows for group in self.row_groups)

    def __repr__(self) -> str:
        return f"<EncodedFile({self.path}), .to_pandas() reads its rows>"

    def to_pandas(self, rows: int | None = None) -> pd.DataFrame:
        """Its rows, or the first few, as a frame: number, label and the fields' ids.

        Args:
            rows: At most so many.

        Raises:
            StaleDataError: A file is damaged.
        """
        frames: list[pd.DataFrame] = []
        wanted = len(self) if rows is None else rows
        for part in parts_of(self.path):
            with told_if_damaged(part), parquet_file(part) as file:
                for batch in file.iter_batches(max(1, min(wanted, _BATCH_ROWS))):
                    frames.append(batch.slice(0, wanted).to_pandas())
                    wanted -= len(frames[-1])
                    if wanted <= 0:
                        return pd.concat(frames, ignore_index=True)
        return pd.concat(frames, ignore_index=True)

    def read(self, fields: Sequence[str], counted: SplitSummary) -> "EncodedSplit":
        """Read the split into memory, in its rows' order.

        Args:
            fields: The fields in the order wanted, which is that of the feature map.
            counted: What preprocessing counted of it.

        Raises:
            StaleDataError: The rows are others than those counted, or a file is damaged.
        """
        import torch

        from llm_ctr_pipeline.data.input.batches import EncodedSplit

        rows = len(self)
        self._check(rows == counted.rows)
        ids_NF = np.empty((rows, len(fields)), dtype=np.int32)
        labels_N = np.empty(rows, dtype=np.float32)
        number_N = np.empty(rows, dtype=np.int64)
        start = 0
        sums = []
        # In batches: the table as Arrow holds it beside ours would take twice the memory.
        for part in parts_of(self.path):
            for numbers, labels, *ids in _columns(part, fields):
                span = slice(start, start + len(numbers))
                number_N[span], labels_N[span] = numbers, labels
                for position, of_field in enumerate(ids):
                    ids_NF[span, position] = of_field
                sums.append(power_sums([numbers, labels, *ids]))
                start = span.stop
        self._check(as_text(joined(sums)) == counted.ids_fingerprint)
        if np.any(number_N[1:] < number_N[:-1]):
            order = np.argsort(number_N, kind="stable")
            ids_NF, labels_N = ids_NF[order], labels_N[order]
        return EncodedSplit(torch.from_numpy(ids_NF), torch.from_numpy(labels_N))

    def look_through(self, fields: Sequence[str], counted: SplitSummary) -> None:
        """Read all rows once, and keep none, to see that they are those counted.

        Raises:
            StaleDataError: See `read`.
        """
        self._check(len(self) == counted.rows)

        def sums_of(part: AnyPath) -> PowerSums:
            return joined(map(power_sums, _columns(part, fields)))

        sums = in_order(sums_of, parts_of(self.path), _THREADS)
        self._check(as_text(joined(sums)) == counted.ids_fingerprint)

    def _check(self, is_as_counted: bool) -> None:
        if not is_as_counted:
            raise StaleDataError(
                f"{self.path} does not hold the rows that summary.json beside it counted: a file "
                "was changed, or preprocessing was interrupted or ran meanwhile"
            )


def _columns(part: AnyPath, fields: Sequence[str]) -> Iterator[list[npt.NDArray[np.integer]]]:
    """Number, label and ids of some rows at a time, each `[N]`."""
    names = [ROW, LABEL, *fields]
    with told_if_damaged(part), parquet_file(part) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=names):
            yield [batch.column(name).to_numpy() for name in names]


@contextmanager
def told_if_damaged(part: AnyPath) -> Iterator[None]:
    """Turn what Arrow says of a file that it cannot read, and a missing one, into one error."""
    try:
        yield
    except RefusedError:
        raise
    except (pa.ArrowException, KeyError, OSError) as error:
        # What the system says has a number; what Arrow says of a file's content has none.
        is_systems = getattr(error, "errno", None) is not None
        if is_systems and not isinstance(error, FileNotFoundError):
            raise
        raise StaleDataError(f"{part} is damaged or missing ({first_line(error)})") from error

"""Raw files scored in bounded memory, and what is told of them.

Shape legend: N rows, F fields.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.log.schema import ROW
from llm_ctr_pipeline.data.storage.store_path import AnyPath, parquet_file, parquet_writer
from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.serving.cells import RowError
from llm_ctr_pipeline.serving.encoder import RowEncoder
from llm_ctr_pipeline.serving.raw_files import RowsFile, read_rows

logger = logging.getLogger(__name__)

PROBABILITY = "probability"
_REPORT = "report"
# Of fewer rows a share says nothing.
_FEWEST_UNKNOWN = 10


class FieldDrift(Frozen):
    """The share of a field's values that the model has no id for.

    Attributes:
        rows: Among the rows that were scored.
        train: Among the rows that the model was trained on.
        valid: Among the rows that it was validated on, none of which gave a value its id.
        doubled: Whether the first is twice the larger of the others, or more.
    """

    rows: float
    train: float
    valid: float
    doubled: bool


class ScoringReport(Frozen):
    """What was scored.

    Attributes:
        files: The raw files, in their order.
        rows: Their rows.
        unscored: Rows with a bad cell, or with too few or too many, which have no probability.
        mean_probability: Of the others; None if there are none.
        checkpoint: SHA-256 of the weights that scored them.
        unknown: By field, how many of its values were out of the vocabulary.
    """

    files: tuple[str, ...]
    rows: int
    unscored: int
    mean_probability: float | None
    checkpoint: str
    unknown: dict[str, FieldDrift]


@dataclass(frozen=True)
class ScoredRows:
    """Scored rows in a Parquet file.

    Attributes:
        path: The file: `row` int64, the columns that were kept, `probability` float64.
    """

    path: AnyPath

    def frame(self) -> pd.DataFrame:
        """Read all of them."""
        with parquet_file(self.path) as file:
            rows: pd.DataFrame = file.read().to_pandas()
        return rows

    def report(self) -> ScoringReport:
        """What was told of them when they were written."""
        with parquet_file(self.path) as file:
            return ScoringReport(**json.loads(file.metadata.metadata[_REPORT.encode()]))


@dataclass(frozen=True)
class RowsToScore:
    """Raw files whose rows are scored while they are written.

    Attributes:
        files: The files, their columns checked.
        encoder: Makes ids.
        score: Of ids int32 `[N, F]` the probabilities, float64 `[N]`.
        batch_size: Rows that are scored at a time: what comes is cut into multiples of it.
        keep: The raw columns to be written beside the probabilities.
        refuse_bad: Whether a row that cannot be scored is an error, or gets no probability.
        summary: Of the rows that the model was trained on.
        checkpoint: SHA-256 of its weights.
    """

    files: Sequence[RowsFile]
    encoder: RowEncoder
    score: Callable[[npt.NDArray[np.int32]], npt.NDArray[np.float64]]
    batch_size: int
    keep: tuple[str, ...]
    refuse_bad: bool
    summary: DatasetSummary
    checkpoint: str

    def write(self, path: AnyPath) -> None:
        """Score the rows and write them in their order, numbered through all files from 0.

        Raises:
            RawLogError: A file is neither CSV nor Parquet, or damaged.
            RowError: A row is bad, and such rows are refused.
        """
        started = time.perf_counter()
        kept = dict.fromkeys(self.keep, pa.string())
        types = {ROW: pa.int64(), **kept, PROBABILITY: pa.float64()}
        rows, unscored, total = 0, 0, 0.0
        unknown_F = np.zeros(len(self.summary.log.names), dtype=np.int64)
        with parquet_writer(path, pa.schema(types), compression="zstd") as writer:
            for ids_NF, bad_N, columns in self._lots():
                probability_N = self.score(ids_NF)
                numbers = pa.array(np.arange(rows, rows + len(ids_NF)))
                scores = pa.array(probability_N, mask=bad_N)
                writer.write_table(pa.table([numbers, *columns, scores], schema=writer.schema))
                rows += len(ids_NF)
                unscored += int(bad_N.sum())
                total += float(probability_N[~bad_N].sum())
                unknown_F += (ids_NF[~bad_N] == 0).sum(axis=0)
            report = self._report(rows, unscored, total, unknown_F)
            writer.add_key_value_metadata({_REPORT: json.dumps(report.to_json())})
        seconds = time.perf_counter() - started
        logger.info(f"{rows:,} rows scored in {seconds:,.1f} s, {rows / seconds:,.0f} rows/s")

    def _lots(
        self,
    ) -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_], list[pa.Array]]]:
        """Cut what is read into multiples of the batch: ids, bad rows, kept columns."""
        fields = len(self.summary.log.names)
        ids_NF, bad_N = np.zeros((0, fields), np.int32), np.zeros(0, np.bool_)
        columns = [pa.array([], pa.string()) for _ in self.keep]
        for more in self._encoded():
            ids_NF, bad_N = np.concatenate([ids_NF, more[0]]), np.concatenate([bad_N, more[1]])
            columns = [pa.concat_arrays(pair) for pair in zip(columns, more[2], strict=True)]
            if whole := len(ids_NF) // self.batch_size * self.batch_size:
                yield ids_NF[:whole], bad_N[:whole], [column[:whole] for column in columns]
                ids_NF, bad_N = ids_NF[whole:], bad_N[whole:]
                columns = [column[whole:] for column in columns]
        if len(ids_NF):
            yield ids_NF, bad_N, columns

    def _encoded(
        self,
    ) -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_], list[pa.Array]]]:
        wanted = [*dict.fromkeys((*self.encoder.columns, *self.keep))]
        for file in self.files:
            before = 0
            for cells, whole_N in read_rows(file, wanted, self.refuse_bad):
                encoded = self.encoder.encode(cells)
                if encoded.fault and self.refuse_bad:
                    row = before + int(encoded.bad_N.argmax()) + 1
                    raise RowError(
                        f"{file.path}, row {row}, {encoded.fault}: mend it, or let such rows go "
                        "without a probability by predict.on_bad_row=null"
                    )
                ids_NF = np.zeros((len(whole_N), encoded.ids_NF.shape[1]), np.int32)
                ids_NF[whole_N] = encoded.ids_NF
                bad_N = ~whole_N
                bad_N[whole_N] = encoded.bad_N
                place_N = pa.array(np.cumsum(whole_N) - 1, mask=~whole_N)
                texts = [cells[name].combine_chunks().cast(pa.string()) for name in self.keep]
                yield ids_NF, bad_N, [pc.take(text, place_N) for text in texts]
                before += len(whole_N)

    def _report(
        self, rows: int, unscored: int, total: float, unknown_F: npt.NDArray[np.int64]
    ) -> ScoringReport:
        scored = rows - unscored
        known = [self.summary.splits[name].unknown_share_by_field for name in ("train", "valid")]
        drift = {}
        for name, count in zip(self.summary.log.names, unknown_F.tolist(), strict=True):
            share, train, valid = count / max(1, scored), known[0][name], known[1][name]
            doubled = count >= _FEWEST_UNKNOWN and share >= 2 * max(train, valid)
            drift[name] = FieldDrift(rows=share, train=train, valid=valid, doubled=doubled)
        return ScoringReport(
            files=tuple(file.path.name for file in self.files),
            rows=rows,
            unscored=unscored,
            mean_probability=total / scored if scored else None,
            checkpoint=self.checkpoint,
            unknown=drift,
        )

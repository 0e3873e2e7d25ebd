"""A generated log: files in Avazu's raw format with clicks of known probability.

It needs no download and tells how good a model can be at all: no ranking of the rows beats
the one by their true click probability, so that one's AUC is the best possible.
"""

import itertools
from typing import ClassVar, Literal

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from ibis.backends import BaseBackend
from pydantic import Field
from rich.filesize import decimal

from llm_ctr_pipeline.bounds import Rows, Seed, TrueShare
from llm_ctr_pipeline.data.errors import RawLogError, SettingsError
from llm_ctr_pipeline.data.log.schema import ROW, SPLITS
from llm_ctr_pipeline.data.raw.manifest import BestAuc
from llm_ctr_pipeline.data.storage.engine import read_parquet
from llm_ctr_pipeline.data.storage.memory import machine_memory
from llm_ctr_pipeline.data.storage.store_path import AnyPath
from llm_ctr_pipeline.data.synthetic.generated_rows import GeneratedRows, draw_rows
from llm_ctr_pipeline.data.synthetic.manifest import (
    MadeLog,
    Manifest,
    auc_of_truth,
    provide,
    read_manifest,
)
from llm_ctr_pipeline.frozen import Frozen

SOURCE = "generated log"
# A row takes more than these bytes of memory while all are drawn at once.
ROW_BYTES = 500
LOG_ROW = "log_row"
PROBABILITY = "probability"
AVAZU_FIELDS: tuple[str, ...] = (
    "C1",
    "banner_pos",
    "site_id",
    "site_domain",
    "site_category",
    "app_id",
    "app_domain",
    "app_category",
    "device_id",
    "device_ip",
    "device_model",
    "device_type",
    "device_conn_type",
    *(f"C{number}" for number in range(14, 22)),
)
AVAZU_COLUMNS: tuple[str, ...] = ("id", "click", "hour", *AVAZU_FIELDS)


class GeneratedLogSettings(Frozen):
    """`params:generated_log`: the log that stands in where no raw log is given."""

    train_rows: Rows = Field(description="Rows of the training split.")
    valid_rows: Rows = Field(description="Rows of the validation split.")
    test_rows: Rows = Field(description="Rows of the test split.")
    seed: Seed = Field(description="Seed of all that is drawn.")
    click_rate: TrueShare = Field(description="Mean true click probability.")

    @property
    def spans(self) -> dict[str, slice]:
        """Where each split's rows lie in the log, its files behind one another."""
        ends = itertools.accumulate((self.train_rows, self.valid_rows, self.test_rows), initial=0)
        spans = itertools.starmap(slice, itertools.pairwise(ends))
        return dict(zip(SPLITS, spans, strict=True))


class GeneratedLog(MadeLog):
    """What a generated log is made with."""

    manifest_name: ClassVar[str] = "generated_log.json"

    version: Literal[1] = 1
    settings: GeneratedLogSettings


def provide_generated_log(
    folder: AnyPath, settings: GeneratedLogSettings
) -> Manifest[GeneratedLog]:
    """Write the log unless the folder already holds it with the same settings.

    The folder holds `{split}.csv` in Avazu's raw columns, `{split}_truth.parquet` with
    `row` int64 and `probability` float64 in the same row order, and the manifest.

    Raises:
        RawLogError: If the folder holds something that is no generated log.
        SettingsError: If the memory does not hold so many rows.
    """
    return provide(
        folder,
        GeneratedLog(settings=settings),
        SPLITS,
        "it is no generated log and stays as it is: move them away, or point raw_dir to "
        "another folder",
        lambda draft: _write(draft, settings),
    )


def first_rows(folder: AnyPath) -> dict[str, int]:
    """Say where each split begins in the log, its files behind one another.

    Raises:
        RawLogError: If the folder holds no generated log.
    """
    manifest = read_manifest(folder, GeneratedLog)
    if manifest is None or manifest.log is None:
        name = GeneratedLog.manifest_name
        raise RawLogError(f"{folder} holds no {name}, so it is no generated log")
    return {split: span.start for split, span in manifest.log.settings.spans.items()}


def read_truth(connection: BaseBackend, folder: AnyPath) -> ir.Table:
    """Name the true click probabilities of all rows of the log.

    Returns:
        `log_row` int64, the position in the log with train, valid and test behind one another,
        and `probability` float64.
    """
    parts = []
    for split, start in first_rows(folder).items():
        truth = read_parquet(connection, folder / f"{split}_truth.parquet")
        parts.append(truth.select(PROBABILITY, **{LOG_ROW: truth[ROW] + start}))
    return ibis.union(*parts)


def _write(folder: AnyPath, settings: GeneratedLogSettings) -> BestAuc:
    spans = settings.spans
    rows, has = spans[SPLITS[-1]].stop, machine_memory()
    if rows * ROW_BYTES > has:
        raise SettingsError(
            f"a generated log of {rows:,} rows takes more than {decimal(rows * ROW_BYTES)} of "
            f"memory, and this machine has {decimal(has)}: lower generated_log.train_rows, "
            "valid_rows or test_rows"
        )
    drawn = draw_rows(rows, settings.seed, settings.click_rate)
    best_auc = {}
    for split, span in spans.items():
        _write_rows(folder / f"{split}.csv", drawn, span)
        probabilities = drawn.probabilities[span]
        truth = pa.table({ROW: np.arange(len(probabilities)), PROBABILITY: probabilities})
        with (folder / f"{split}_truth.parquet").open("wb") as file:
            pa.parquet.write_table(truth, file)
        best_auc[split] = auc_of_truth(drawn.clicks[span], probabilities)
    return best_auc


def _write_rows(path: AnyPath, drawn: GeneratedRows, span: slice) -> None:
    columns = {"id": pa.array(drawn.ids[span]), "click": pa.array(drawn.clicks[span])}
    for name, column in drawn.columns.items():
        columns[name] = pa.array(column.values).take(pa.array(column.index[span]))
    plain = pa.csv.WriteOptions(include_header=False, quoting_style="none")
    with path.open("wb") as file:
        file.write(f"{','.join(AVAZU_COLUMNS)}\n".encode())
        pa.csv.write_csv(pa.table(columns).select(AVAZU_COLUMNS), file, plain)

"""The log at hand in the other two encodings of Avazu, x1 and x2.

reczoo's Avazu_x1 and Avazu_x2 are re-encodings and re-splits of the log that Avazu_x4 is.
Where they are not at hand, this module makes them of a log in Avazu's raw columns: every
column's values become consecutive integers, the rows are shuffled and split anew.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend
from pydantic import Field, model_validator

from llm_ctr_pipeline.bounds import Seed, Share, TrueShare
from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.log.schema import LABEL, ROW
from llm_ctr_pipeline.data.log.times import FORMATS
from llm_ctr_pipeline.data.raw.manifest import BestAuc
from llm_ctr_pipeline.data.raw.splits import PRIME, shuffled
from llm_ctr_pipeline.data.storage.engine import named, read_parquet, write_csv, write_parquet
from llm_ctr_pipeline.data.storage.store_path import AnyPath, parquet_table
from llm_ctr_pipeline.data.synthetic.generated_log import AVAZU_FIELDS, LOG_ROW, PROBABILITY
from llm_ctr_pipeline.data.synthetic.manifest import (
    MadeLog,
    Manifest,
    auc_of_truth,
    provide,
)
from llm_ctr_pipeline.frozen import Frozen

_TIME = FORMATS["YYMMDDHH"]
# What the published files add to hour, day (counted from the first one) and weekday.
_X1_HOUR, _X2_HOUR, _X2_DAY, _X2_WEEKDAY = 1_544_248, 645_164, 645_154, 645_188
_FIRST_DAY = 21
# The values of feat_21, of which nobody says what they are.
_X1_UNKNOWN_VALUES = 38
_SHUFFLED = "shuffled_row"


class Recoding(Frozen):
    """How one encoding is split; the same settings and rows give the same bytes."""

    valid_share: Share = Field(description="Share of valid.csv; 0 for no such file.")
    test_share: TrueShare = Field(description="Share of test.csv.")
    seed: Seed = Field(description="Seed of the order and the splits.")

    @model_validator(mode="after")
    def _rows_left(self) -> Self:
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share and test_share leave no rows to train on")
        return self

    @property
    def bounds(self) -> dict[str, tuple[int, int]]:
        """Between which shuffled row numbers each split lies, lower one included."""
        valid = round((1 - self.valid_share - self.test_share) * PRIME)
        test = round((1 - self.test_share) * PRIME)
        bounds = {"train": (0, valid), "valid": (valid, test), "test": (test, PRIME)}
        return {split: ends for split, ends in bounds.items() if ends[0] < ends[1]}


class Recodings(Frozen):
    """`params:recoding`: x1 and x2, where they are made of the log at hand."""

    x1: Recoding
    x2: Recoding


class RecodedRows(Frozen):
    """What says that recoded rows are the same: a source and the fingerprint of each split."""

    source: str
    splits: dict[str, str]


class RecodedLog(MadeLog):
    """What a recoded log is made with."""

    manifest_name: ClassVar[str] = "recoded_log.json"

    version: Literal[2] = 2
    dataset: Literal["x1", "x2"]
    settings: Recoding
    made_from: RecodedRows


def rows_of_log(splits: Mapping[str, ir.Table], starts: Mapping[str, int]) -> ir.Table:
    """Put splits of a raw log behind one another and number their rows through.

    `starts` says at which row of the log the raw file of each split begins.

    Returns:
        `log_row` int64, `click`, `hour` and Avazu's fields.

    Raises:
        RawLogError: If a column is missing.
    """
    columns = ("click", "hour", *AVAZU_FIELDS)
    parts = []
    for split, table in splits.items():
        missing = [name for name in columns if name not in table.columns]
        if missing:
            raise RawLogError(
                f"x1 and x2 can be made of a log in Avazu's raw columns alone, and {missing[0]!r} "
                "is missing: point x1_raw_dir and x2_raw_dir to folders of their own"
            )
        number = (table[ROW] + starts[split]).cast("int64")
        parts.append(table.select(*columns, **{LOG_ROW: number}))
    return ibis.union(*parts)


def provide_recoded_log(
    folder: AnyPath,
    connection: BaseBackend,
    log: RecodedLog,
    rows: ir.Table,
    truth: ir.Table | None,
) -> Manifest[RecodedLog]:
    """Write a log in another encoding unless the folder already holds it.

    The folder holds `{split}.csv`, `{split}_truth.parquet` with `row`, `log_row` (the position
    in the log that it was made of), `label` and, where it is known, `probability`; and the
    manifest.

    Args:
        folder: Where to write.
        connection: Ibis backend.
        log: What it is made with.
        rows: As `rows_of_log` returns them.
        truth: As `read_truth` returns it, of a generated log.

    Raises:
        RawLogError: If the folder holds something else.
    """
    return provide(
        folder,
        log,
        log.settings.bounds,
        "it was not written by this program and stays as it is: point "
        f"{log.dataset}_raw_dir to it if it is the log to use",
        lambda draft: _write(draft, connection, log, rows, truth),
    )


def _write(
    folder: AnyPath,
    connection: BaseBackend,
    log: RecodedLog,
    rows: ir.Table,
    truth: ir.Table | None,
) -> BestAuc | None:
    encoded = _encode(connection, rows, log, folder.parent)
    number = encoded[_SHUFFLED]
    label = encoded.columns[1]  # both encodings begin with it
    best_auc = {}
    for split, (low, high) in log.settings.bounds.items():
        chosen = encoded.filter((number >= low) & (number < high)).order_by(_SHUFFLED)
        write_csv(connection, chosen.drop(LOG_ROW, _SHUFFLED), folder / f"{split}.csv")
        row = ibis.row_number().over(order_by=_SHUFFLED).cast("int64")
        origin = chosen.select(LOG_ROW, **{ROW: row, LABEL: chosen[label]})
        if truth is not None:
            origin = origin.join(truth, LOG_ROW)
        file = folder / f"{split}_truth.parquet"
        write_parquet(connection, origin.order_by(ROW), file)
        if truth is not None:
            known = parquet_table(file, [LABEL, PROBABILITY])
            best_auc[split] = auc_of_truth(known[LABEL].to_numpy(), known[PROBABILITY].to_numpy())
    return best_auc or None


def _encode(connection: BaseBackend, rows: ir.Table, log: RecodedLog, scratch: AnyPath) -> ir.Table:
    """Write rows as the published files have them: the label, then integers.

    Returns:
        Also `log_row`, and the shuffled number that rows are sorted and split by.
    """
    rows = named(connection, rows)
    order, columns_of = _ENCODINGS[log.dataset]
    codes = _kept(connection, _number_values(rows, order), scratch / "codes.parquet")
    joined = rows
    for field in AVAZU_FIELDS:
        known = codes.filter(codes["field"] == field)
        known = known.select(**{f"{field}_value": "value", f"{field}_code": "code"})
        joined = joined.left_join(known, joined[field] == known[f"{field}_value"])
    coded = joined.select(
        LOG_ROW,
        "hour",
        **{LABEL: joined["click"].cast("int8")},
        **{field: joined[f"{field}_code"] for field in AVAZU_FIELDS},
    )
    columns = columns_of(coded, codes.count().to_pyarrow().as_py())
    number = shuffled(coded[LOG_ROW], log.settings.seed)
    encoded = coded.select(LOG_ROW, **columns, **{_SHUFFLED: number})
    return _kept(connection, encoded, scratch / "encoded.parquet")


def _number_values(rows: ir.Table, fields: Sequence[str]) -> ir.Table:
    """Number the values of all fields through: by field, count descending, value ascending."""
    counted = ibis.union(
        *(
            rows.group_by(value=field)
            .aggregate(count=rows.count())
            .mutate(field=ibis.literal(field), position=ibis.literal(position))
            for position, field in enumerate(fields)
        )
    )
    code = ibis.row_number().over(order_by=["position", counted["count"].desc(), "value"])
    return counted.select("field", "value", code=code.cast("int64"))


def _columns_of_x1(coded: ir.Table, codes: int) -> dict[str, ir.Column]:
    """`label`, then `feat_1` to `feat_22`."""
    features = {f"feat_{at}": coded[field] for at, field in enumerate(AVAZU_FIELDS[:-1], start=1)}
    return {
        "label": coded[LABEL],
        **features,
        "feat_21": shuffled(coded[LOG_ROW], seed=0) % _X1_UNKNOWN_VALUES + codes,
        "feat_22": _TIME.hour(coded["hour"]).cast("int64") + _X1_HOUR,
    }


def _columns_of_x2(coded: ir.Table, _: int) -> dict[str, ir.Column]:
    """`click`, the raw names, `hour`, `mday` and `wday`."""
    return {
        "click": coded[LABEL],
        **{field: coded[field] for field in AVAZU_FIELDS},
        "hour": _TIME.hour(coded["hour"]).cast("int64") + _X2_HOUR,
        "mday": _TIME.day(coded["hour"]).cast("int64") - _FIRST_DAY + _X2_DAY,
        "wday": _TIME.weekday(coded["hour"]).cast("int64") + _X2_WEEKDAY,
    }


# By encoding, the fields in the order that their values are numbered in, so that a value has
# another code in x2 than in x1; and the columns.
_ENCODINGS = {"x1": (AVAZU_FIELDS, _columns_of_x1), "x2": (AVAZU_FIELDS[::-1], _columns_of_x2)}


def _kept(connection: BaseBackend, table: ir.Table, file: AnyPath) -> ir.Table:
    """Compute a table once and read it from its file from then on."""
    write_parquet(connection, table, file)
    return read_parquet(connection, file)

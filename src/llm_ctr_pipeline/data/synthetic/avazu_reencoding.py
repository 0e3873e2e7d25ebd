"""The log at hand in the other two encodings of Avazu, x1 and x2.

reczoo's Avazu_x1 and Avazu_x2 are re-encodings and re-splits of the log that Avazu_x4 is.
Where they are not at hand, this module makes them of a log in Avazu's raw columns: every
column's values become consecutive integers, the rows are shuffled and split anew.
"""

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

import ibis
import ibis.expr.types as ir
from ibis.backends import BaseBackend

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.features.encode import encode
from llm_ctr_pipeline.data.features.vocabulary import fit_vocabulary
from llm_ctr_pipeline.data.log.schema import (
    DAY,
    HOUR,
    LABEL,
    ROW,
    WEEKDAY,
    FieldSource,
    LogSchema,
    Splitting,
)
from llm_ctr_pipeline.data.log.times import FORMATS
from llm_ctr_pipeline.data.raw.splits import PRIME, shuffled
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.engine import named, read_parquet, write_csv, write_parquet
from llm_ctr_pipeline.data.storage.store_path import Place, is_whole, make_folder, parquet_table
from llm_ctr_pipeline.data.synthetic.avazu import AVAZU_FIELDS

CARD_NAME = "recoded_log.json"
LOG_ROW = "log_row"
PROBABILITY = "probability"
# Raise it when the same settings begin to give other rows: logs on disk are then rewritten.
_VERSION = 2

_TIME = FORMATS["YYMMDDHH"]
# What the published files add to hour, day (counted from the first one) and weekday.
_X1_HOUR, _X2_HOUR, _X2_DAY, _X2_WEEKDAY = 1_544_248, 645_164, 645_154, 645_188
_FIRST_DAY = 21
# Every column of Avazu as it is, to give each of its values a code.
_COLUMNS = LogSchema(
    dataset="recoded",
    delimiter=",",
    columns=None,
    label="click",
    ignored=(),
    times=(),
    codes=(),
    fields=tuple(FieldSource(name=name, column=name) for name in AVAZU_FIELDS),
    splits=Splitting(train="-", valid="--", test="---", by="random", seed=0),
)
# The values of feat_21, of which nobody says what they are.
_X1_UNKNOWN_VALUES = 38


@dataclass(frozen=True)
class Recoding:
    """How one encoding is split; the same settings and rows give the same bytes.

    Attributes:
        valid_share: Share of the rows in valid.csv; 0 for no such file.
        test_share: Share of the rows in test.csv.
        seed: Seed of the order and the splits.
    """

    valid_share: float
    test_share: float
    seed: int

    @property
    def bounds(self) -> dict[str, tuple[int, int]]:
        """Between which shuffled row numbers each split lies, lower one included."""
        valid = round((1 - self.valid_share - self.test_share) * PRIME)
        test = round((1 - self.test_share) * PRIME)
        bounds = {"train": (0, valid), "valid": (valid, test), "test": (test, PRIME)}
        return {split: ends for split, ends in bounds.items() if ends[0] < ends[1]}


def rows_of_log(splits: Mapping[str, ir.Table], starts: Mapping[str, int]) -> ir.Table:
    """Put splits of a raw log behind one another and number their rows through.

    Args:
        splits: Raw rows with Avazu's columns, as strings, and their position.
        starts: At which row of the log the raw file of each split begins.

    Returns:
        `log_row` int64, `click`, `hour` and Avazu's fields.

    Raises:
        RawLogError: If a column is missing.
    """
    parts = []
    for split, table in splits.items():
        missing = [name for name in ("click", "hour", *AVAZU_FIELDS) if name not in table.columns]
        if missing:
            raise RawLogError(
                f"x1 and x2 can be made of a log in Avazu's raw columns alone, and {missing[0]!r} "
                "is missing: point x1_raw_dir and x2_raw_dir to folders of their own"
            )
        numbered = {LOG_ROW: (table[ROW] + starts[split]).cast("int64")}
        parts.append(table.select(**numbered, click="click", hour="hour", **_same(AVAZU_FIELDS)))
    return reduce(lambda first, second: first.union(second), parts)


def encode_as_x1(rows: ir.Table, vocabulary: ir.Table) -> ir.Table:
    """Write rows as Avazu_x1 does: `label`, then `feat_1` to `feat_22` as integers.

    Args:
        rows: As `rows_of_log` returns them.
        vocabulary: All values of Avazu's fields in them, as `fit_vocabulary` returns it.

    Returns:
        Also `log_row`.
    """
    coded, values = _consecutive_codes(rows, vocabulary, AVAZU_FIELDS)
    unknown = shuffled(coded[LOG_ROW], seed=0) % _X1_UNKNOWN_VALUES + values
    features = {
        f"feat_{number}": coded[field] for number, field in enumerate(AVAZU_FIELDS[:-1], start=1)
    }
    return coded.select(
        LOG_ROW,
        LABEL,
        **features,
        feat_21=unknown,
        feat_22=_TIME.hour(coded["hour"]).cast("int64") + _X1_HOUR,
    )


def encode_as_x2(rows: ir.Table, vocabulary: ir.Table) -> ir.Table:
    """Write rows as Avazu_x2 does: `click`, the raw names as integers, `hour`, `mday`, `wday`.

    Args:
        rows: As `rows_of_log` returns them.
        vocabulary: All values of Avazu's fields in them, as `fit_vocabulary` returns it.

    Returns:
        Also `log_row`.
    """
    # Another order of the columns than in x1, so that a value's two codes differ.
    coded, _ = _consecutive_codes(rows, vocabulary, AVAZU_FIELDS[::-1])
    time = {part: _TIME.part(coded["hour"], part).cast("int64") for part in (HOUR, DAY, WEEKDAY)}
    return coded.select(
        LOG_ROW,
        click=LABEL,
        **_same(AVAZU_FIELDS),
        hour=time[HOUR] + _X2_HOUR,
        mday=time[DAY] - _FIRST_DAY + _X2_DAY,
        wday=time[WEEKDAY] + _X2_WEEKDAY,
    )


ENCODERS = {"x1": encode_as_x1, "x2": encode_as_x2}


def provide_recoded_log(
    folder: Place,
    connection: BaseBackend,
    dataset: str,
    rows: ir.Table,
    recoding: Recoding,
    made_from: Mapping[str, Any],
    truth: ir.Table | None,
) -> dict[str, Any]:
    """Write a log in another encoding unless the folder already holds it.

    The folder holds `{split}.csv`, `{split}_truth.parquet` with `row`, `log_row` (the position
    in the log that it was made of), `label` and, where it is known, `probability`; and the card.

    Args:
        folder: Where to write.
        connection: Ibis backend.
        dataset: `x1` or `x2`.
        rows: As `rows_of_log` returns them.
        recoding: How it is split.
        made_from: What says that rows are the same: sources and fingerprints, JSON types.
        truth: `log_row` and `probability` of a generated log's rows.

    Returns:
        The card: version, settings, what it was made from, best AUC per split or None.

    Raises:
        RawLogError: If the folder holds something else.
    """
    wanted = {
        "version": _VERSION,
        "dataset": dataset,
        "settings": asdict(recoding),
        "made_from": dict(made_from),
    }
    path, card = folder, read_card(folder)
    if card is None and path.exists() and any(path.iterdir()):
        raise RawLogError(
            f"{path} holds files but no {CARD_NAME}, so it was not written by this program and "
            f"stays as it is: point {dataset}_raw_dir to it if it is the log to use"
        )
    complete = all((path / f"{split}.csv").is_file() for split in recoding.bounds)
    complete = complete and is_whole(path)
    if card is not None and complete and {name: card[name] for name in wanted} == wanted:
        return card
    with drafted(path) as draft:
        make_folder(draft)
        rows = named(connection, rows)
        vocabulary = fit_vocabulary(rows, _COLUMNS, min_count=1)
        vocabulary = _kept(connection, vocabulary, draft.with_name("vocabulary.parquet"))
        coded = ENCODERS[dataset](rows, vocabulary)
        coded = _kept(connection, coded, draft.with_name("coded.parquet"))
        _write_splits(connection, draft, coded, recoding, truth)
        best_auc = (
            {split: _auc(draft, split) for split in recoding.bounds} if truth is not None else None
        )
        card = {**wanted, "best_auc": best_auc}
        (draft / CARD_NAME).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


def is_of(card: Mapping[str, Any], recoding: Recoding) -> bool:
    """Whether a recoded log's card is that of a log split in this way."""
    return (card["version"], card["settings"]) == (_VERSION, asdict(recoding))


def read_card(folder: Place) -> dict[str, Any] | None:
    """Return the card of a log that was written here; None for another folder."""
    path = folder / CARD_NAME
    if not path.is_file():
        return None
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return card


def _write_splits(
    connection: BaseBackend,
    folder: Place,
    coded: ir.Table,
    recoding: Recoding,
    truth: ir.Table | None,
) -> None:
    number = "shuffled number"
    label = "label" if "label" in coded.columns else "click"
    coded = coded.mutate(**{number: shuffled(coded[LOG_ROW], recoding.seed)})
    for split, (low, high) in recoding.bounds.items():
        rows = coded.filter((coded[number] >= low) & (coded[number] < high)).order_by(number)
        write_csv(connection, rows.drop(LOG_ROW, number), folder / f"{split}.csv")
        order = ibis.window(order_by=number)
        origin = rows.select(
            LOG_ROW, **{ROW: ibis.row_number().over(order).cast("int64"), LABEL: rows[label]}
        )
        if truth is not None:
            origin = origin.join(truth, LOG_ROW)
        write_parquet(connection, origin.order_by(ROW), folder / f"{split}_truth.parquet")


def _auc(folder: Place, split: str) -> float | None:
    """Return the AUC of the true probabilities; None where a split holds one class only."""
    from sklearn.metrics import roc_auc_score  # a second to import, rarely needed

    truth = parquet_table(folder / f"{split}_truth.parquet", [LABEL, PROBABILITY])
    labels = truth[LABEL].to_numpy()
    if labels.min() == labels.max():
        return None
    return float(roc_auc_score(labels, truth[PROBABILITY].to_numpy()))


def _consecutive_codes(
    rows: ir.Table, vocabulary: ir.Table, fields: tuple[str, ...]
) -> tuple[ir.Table, int]:
    """Number every field's values from where the field before ends; say how many there are."""
    sizes = _sizes(vocabulary)
    coded = encode(rows.rename({ROW: LOG_ROW}), vocabulary, _COLUMNS)
    ends = itertools.accumulate(sizes[field] for field in fields)
    starts = {field: end - sizes[field] for field, end in zip(fields, ends, strict=True)}
    times = rows.select(time_row=LOG_ROW, hour="hour")
    numbered = coded.join(times, coded[ROW] == times["time_row"]).select(
        LABEL,
        "hour",
        **{LOG_ROW: coded[ROW]},
        **{field: coded[field].cast("int64") - 1 + starts[field] for field in AVAZU_FIELDS},
    )
    return numbered, sum(sizes.values())


def _kept(connection: BaseBackend, table: ir.Table, file: Place) -> ir.Table:
    """Compute a table once and read it from its file from then on."""
    write_parquet(connection, table, file)
    return read_parquet(connection, file)


def _sizes(vocabulary: ir.Table) -> dict[str, int]:
    counts = vocabulary.group_by("field").aggregate(size=vocabulary.count()).to_pyarrow()
    return dict(zip(counts["field"].to_pylist(), counts["size"].to_pylist(), strict=True))


def _same(names: tuple[str, ...]) -> dict[str, str]:
    return {name: name for name in names}

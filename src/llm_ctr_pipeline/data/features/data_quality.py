"""What of an encoded log is allowed and still spoils what is measured on it."""

import logging

import ibis
import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt

from llm_ctr_pipeline.data.features.dataset_summary import SplitSummary
from llm_ctr_pipeline.data.features.vocabulary import count_values, part_of
from llm_ctr_pipeline.data.log.schema import LABEL
from llm_ctr_pipeline.data.raw.csv_text import shown
from llm_ctr_pipeline.data.raw.raw_log import CheckedLog

logger = logging.getLogger(__name__)

# A field tells nothing of a split where no more than the rest of its values are known.
_NEARLY_ALL = 0.95
# Rows alike by chance are as frequent in both splits, give or take so many and what is in small
# numbers.
_CHANCE = 0.05
# Of so many rows of train, about, it is told how many have a twin.
_SAMPLED_ROWS = 1_000_000


def unseen_fields(train: SplitSummary, split: SplitSummary) -> tuple[str, ...]:
    """The fields of which a split has hardly a known value, though train has ids for its own."""
    return tuple(
        field
        for field, share in split.unknown_share_by_field.items()
        if share > _NEARLY_ALL > train.unknown_share_by_field[field]
    )


def warn_of_unseen(
    checked: CheckedLog, vocabulary: ir.Table, split: str, summary: SplitSummary
) -> None:
    """Name the fields that `unseen_fields` found, each with its most frequent unknown value.

    Args:
        checked: The log.
        vocabulary: What it was encoded with.
        split: Name of the split.
        summary: Its counts.
    """
    log = checked.raw_log.log
    known = part_of(vocabulary, log.dataset)
    for field in (field for field in log.fields if field.name in summary.unseen_fields):
        seen = known.filter(known["field"] == field.name)
        counted = count_values(checked.split(split).table, field, log).anti_join(seen, "value")
        by_count = counted.order_by([ibis.desc("count"), "value"])
        value = by_count.limit(1).to_pyarrow()["value"][0].as_py()
        values = seen["value"].to_pyarrow().to_pylist()
        alike = [written for written in values if _alike(written, value)]
        logger.warning(
            "%s of %s: %.0f %% of the values are unknown, such as %s%s",
            field.name,
            split,
            100 * summary.unknown_share_by_field[field.name],
            shown(value),
            f"; train writes it {shown(alike[0])}" if alike else "",
        )


def _alike(first: str, second: str) -> bool:
    """Whether two values are one number or one word, written in two ways."""
    if first.strip().casefold() == second.strip().casefold():
        return True
    try:
        return float(first) == float(second)
    except ValueError:
        return False


def warn_of_rows_in_train(
    train: ir.Table, others: dict[str, ir.Table], fields: tuple[str, ...]
) -> None:
    """Warn where more rows of a split stand in train too than can be by chance.

    Rows are alike if label and ids are. By chance a row has a twin in train as often as train's own
    rows have (Good and Turing), which with few fields may be always.

    Args:
        train: The encoded training split.
        others: The other encoded splits by name.
        fields: The fields.
    """
    every = 1 + train.count().to_pyarrow().as_py() // _SAMPLED_ROWS
    own = _hashes(train, fields, every)
    values, counts = np.unique(own, return_counts=True)
    twins = counts[counts > 1].sum() / max(1, len(own))
    for name, split in others.items():
        hashes = _hashes(split, fields, every)
        rows = max(1, len(hashes))
        share = np.isin(hashes, values).sum() / rows
        if share > twins + _CHANCE + rows**-0.5:
            logger.warning(
                "%.1f %% of the rows of %s stand in train too, and of train's own rows %.1f %% "
                "have a twin there: what is measured on %s is not what new rows would give",
                100 * share,
                name,
                100 * twins,
                name,
            )


def _hashes(rows: ir.Table, fields: tuple[str, ...], every: int) -> npt.NDArray[np.int64]:
    """A hash of each row's label and ids; of all hashes that there can be, one in `every`."""
    hashes = rows.select(hash=ibis.struct({name: rows[name] for name in (LABEL, *fields)}).hash())
    drawn = hashes.filter(hashes["hash"] % every == 0)
    return np.asarray(drawn.to_pyarrow()["hash"], dtype=np.int64)

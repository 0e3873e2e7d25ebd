"""What an encoded split holds, counted in one scan."""

import ibis
import ibis.expr.types as ir

from llm_ctr_pipeline.data.errors import StaleDataError
from llm_ctr_pipeline.data.features.dataset_summary import SplitSummary
from llm_ctr_pipeline.data.features.rows_digest import PRIME, as_text, factor_of
from llm_ctr_pipeline.data.log.schema import LABEL, ROW
from llm_ctr_pipeline.data.raw.manifest import SplitCounts

_UNKNOWN, _HASH = "unknown__", "_hash"
_SQUARES, _CUBES = "square_sum__", "cube_sum__"


def summarise_split(
    split: str, encoded: ir.Table, fields: tuple[str, ...], raw: SplitCounts
) -> SplitSummary:
    """Count an encoded split and see that it is whole.

    Raises:
        StaleDataError: If it has another number of rows than the raw split that it comes from.
    """
    counts = count_split(encoded, fields).to_pyarrow().to_pylist()[0]
    rows = raw.rows
    if counts["rows"] != rows:
        raise StaleDataError(
            f"the encoded {split} split has {counts['rows']} rows, the raw one {rows}"
        )
    unknown = {field: int(counts[_UNKNOWN + field]) for field in fields}
    clicks = int(counts["clicks"])
    return SplitSummary(
        rows=rows,
        clicks=clicks,
        click_rate=clicks / rows,
        unknown_share=sum(unknown.values()) / (rows * len(fields)),
        unknown_share_by_field={field: count / rows for field, count in unknown.items()},
        ids_fingerprint=as_text((int(counts[_SQUARES]), int(counts[_CUBES]))),
        raw_fingerprint=raw.fingerprint,
    )


def count_split(encoded: ir.Table, fields: tuple[str, ...]) -> ir.Table:
    """Count what a summary holds: one row of sums."""
    # In a column of its own a row's hash is reckoned once, and not once for each power.
    hashed = encoded.mutate(**{_HASH: _row_hash(encoded, (LABEL, *fields))})
    return hashed.aggregate(
        rows=hashed.count(),
        clicks=hashed[LABEL].sum(),
        **_power_sums(hashed[_HASH]),
        **{_UNKNOWN + field: (hashed[field] == 0).sum() for field in fields},
    )


def _row_hash(encoded: ir.Table, columns: tuple[str, ...]) -> ir.IntegerColumn:
    """Sum a row's number, label and ids, each times a number of its own, modulo a prime."""
    terms = [encoded[ROW].cast("int64") % PRIME]
    for position, column in enumerate(columns, start=1):
        factor = ibis.literal(factor_of(position), "int64")
        terms.append(encoded[column].cast("int64") * factor % PRIME)
    while len(terms) > 1:  # in pairs, since engines take long over deep expressions
        terms = [sum(terms[at + 1 : at + 2], terms[at]) for at in range(0, len(terms), 2)]
    return terms[0] % PRIME


def _power_sums(hash_: ir.IntegerColumn) -> dict[str, ir.Scalar]:
    """As `rows_digest.power_sums`, in whole numbers below 2^63."""
    square = hash_ * hash_ % PRIME
    cube = square * hash_ % PRIME
    # The remainder of each sum, since DuckDB returns sums as floats.
    return {_SQUARES: square.sum() % PRIME, _CUBES: cube.sum() % PRIME}

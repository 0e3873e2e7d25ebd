"""What an encoded split holds, counted in one scan."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import ibis.expr.types as ir

from llm_ctr_pipeline.data.schema import LABEL

_UNKNOWN = "unknown__"


@dataclass(frozen=True)
class SplitSummary:
    """Counts of one encoded split.

    Attributes:
        rows: Its rows.
        clicks: Rows with label 1.
        click_rate: Share of them.
        unknown_share: Share of ids that are 0, over all fields.
        unknown_share_by_field: The same for each field.
    """

    rows: int
    clicks: int
    click_rate: float
    unknown_share: float
    unknown_share_by_field: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON types."""
        return asdict(self)


def summarise_split(
    split: str, encoded: ir.Table, fields: tuple[str, ...], rows: int
) -> SplitSummary:
    """Count an encoded split and see that it is whole.

    Args:
        split: Its name, for the error.
        encoded: `label` and the fields' ids.
        fields: The fields in order.
        rows: Rows of the raw split it comes from.

    Raises:
        ValueError: If it has another number of rows.
    """
    query = encoded.aggregate(
        rows=encoded.count(),
        clicks=encoded[LABEL].sum(),
        **{_UNKNOWN + field: (encoded[field] == 0).sum() for field in fields},
    )
    counts = query.to_pyarrow().to_pylist()[0]
    if counts["rows"] != rows:
        raise ValueError(
            f"the encoded {split} split has {counts['rows']} rows, the raw one {rows}: "
            "run `kedro run --pipeline=preprocess` again"
        )
    unknown = {field: int(counts[_UNKNOWN + field]) for field in fields}
    clicks = int(counts["clicks"])
    return SplitSummary(
        rows=rows,
        clicks=clicks,
        click_rate=clicks / rows,
        unknown_share=sum(unknown.values()) / (rows * len(fields)),
        unknown_share_by_field={field: count / rows for field, count in unknown.items()},
    )

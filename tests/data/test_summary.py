import ibis
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.summary import summarise_split


def test_counts_of_a_split(connection: Backend) -> None:
    table = ibis.memtable(
        {"row": [0, 1, 2, 3], "label": [0, 1, 0, 0], "a": [0, 0, 0, 1], "b": [1] * 4}
    )
    summary = summarise_split("train", connection.create_table("t", table), ("a", "b"), rows=4)
    assert summary.to_dict() == {
        "rows": 4,
        "clicks": 1,
        "click_rate": 0.25,
        "unknown_share": 3 / 8,
        "unknown_share_by_field": {"a": 0.75, "b": 0.0},
    }


def test_a_split_with_rows_missing_is_refused(connection: Backend) -> None:
    table = ibis.memtable({"row": [0, 2], "label": [0, 1], "a": [0, 0]})
    with pytest.raises(ValueError, match="encoded valid split has 2 rows, the raw one 3"):
        summarise_split("valid", connection.create_table("t", table), ("a",), rows=3)

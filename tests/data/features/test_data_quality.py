"""What is allowed, and worth a warning."""

import random
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.features import data_quality
from llm_ctr_pipeline.data.features.data_quality import (
    unseen_fields,
    warn_of_rows_in_train,
    warn_of_unseen,
)
from llm_ctr_pipeline.data.features.dataset_summary import SplitSummary
from llm_ctr_pipeline.data.features.vocabulary import fit_vocabulary
from llm_ctr_pipeline.data.log.schema import SPLITS
from tests.data.logs import changed, checked_log, log_of

FIELDS = ("a", "b")


def counts(**unknown: float) -> SplitSummary:
    return SplitSummary(
        rows=10,
        clicks=5,
        click_rate=0.5,
        unknown_share=0.5,
        unknown_share_by_field=unknown,
        ids_fingerprint="0" * 16,
        raw_fingerprint="0" * 64,
    )


def test_a_field_is_unseen_where_only_train_has_its_values() -> None:
    train = counts(all_of_it=0.0, most_of_it=0.1, rare_everywhere=0.99, a_little=0.0)
    valid = counts(all_of_it=1.0, most_of_it=0.96, rare_everywhere=1.0, a_little=0.9)
    assert unseen_fields(train, valid) == ("all_of_it", "most_of_it")


@pytest.mark.parametrize(
    ("in_train", "in_test", "told"),
    [
        ("3", "3.0", "such as '3.0'; train writes it '3'"),
        ("x", "x ", "such as 'x '; train writes it 'x'"),
        ("Yes", "YES", "such as 'YES'; train writes it 'Yes'"),
        ("x", "", "such as ''"),
        ("x", "y", "such as 'y'"),
    ],
)
def test_an_unseen_field_is_told_with_its_most_frequent_value(
    tmp_path: Path,
    connection: Backend,
    caplog: pytest.LogCaptureFixture,
    in_train: str,
    in_test: str,
    told: str,
) -> None:
    for first, split in enumerate(SPLITS):
        often = in_test if split == "test" else in_train
        rows = [f"{row % 2},{often if row else 'other'},{first + row}\n" for row in range(6)]
        (tmp_path / f"{split}.csv").write_text("".join(["label,a,b\n", *rows]))
    log = log_of(*FIELDS)
    checked = checked_log(connection, tmp_path, log, tmp_path / "rows")
    train = checked.split("train").table
    vocabulary = connection.create_table("v", fit_vocabulary(train, log, 2).to_pyarrow())
    summary = changed(counts(a=0.99, b=1.0), unseen_fields=("a",))
    warn_of_unseen(checked, vocabulary, "test", summary)
    (message,) = caplog.messages
    assert message == f"a of test: 99 % of the values are unknown, {told}"


def rows_of(seed: int, values: int, rows: int = 1000) -> dict[str, list[int]]:
    draw = random.Random(seed)  # noqa: S311 - no secret
    return {
        name: [draw.randrange(2 if name == "label" else values) for _ in range(rows)]
        for name in ("label", *FIELDS)
    }


def with_rows_of(rows: dict[str, list[int]], other: dict[str, list[int]], first: int) -> ir.Table:
    return ibis.memtable({name: other[name][:first] + rows[name][first:] for name in rows})


@pytest.mark.parametrize(
    ("values", "copied", "told"),
    [
        (1000, 0, None),
        (1000, 20, None),
        (1000, 200, "20.0 %"),
        (1000, 1000, "100.0 %"),
        (3, 0, None),
    ],
)
@pytest.mark.parametrize("sampled", [1_000_000, 300])
def test_rows_of_train_are_told_where_there_are_more_than_by_chance(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    values: int,
    copied: int,
    told: str | None,
    sampled: int,
) -> None:
    monkeypatch.setattr(data_quality, "_SAMPLED_ROWS", sampled)
    train, valid = rows_of(1, values), rows_of(2, values)
    others = {"valid": ibis.memtable(valid), "test": with_rows_of(valid, train, copied)}
    warn_of_rows_in_train(ibis.memtable(train), others, FIELDS)
    assert len(caplog.messages) == (told is not None)
    if told is not None:
        assert "of the rows of test stand in train too" in caplog.messages[0]
        assert sampled == 300 or caplog.messages[0].startswith(told)

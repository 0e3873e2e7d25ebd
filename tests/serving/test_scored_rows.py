"""Rows that are scored while they are written."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from llm_ctr_pipeline.data.raw import csv_blocks
from llm_ctr_pipeline.serving.encoder import RowEncoder
from llm_ctr_pipeline.serving.raw_files import open_rows
from llm_ctr_pipeline.serving.scored_rows import RowsToScore, ScoredRows
from tests.records import summary_of


def scored(tmp_path: Path, lots: list[int], texts: list[str], **changes: Any) -> ScoredRows:
    """Score files of column a, whose value "n" has the id n; note how many rows come at a time."""

    def score(ids_NF: np.ndarray) -> np.ndarray:
        lots.append(len(ids_NF))
        result: np.ndarray = ids_NF[:, 0] / 1000
        return result

    folder = tmp_path / "rows"
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number}.csv").write_text("a\n" + text)
    summary = summary_of("x4", ["a"], unknown_share=0.1)
    values = [str(value) for value in range(1, 900)]
    ids = pa.array(range(1, 900), pa.int32())
    vocabulary = pa.table({"field": ["a"] * len(values), "value": values, "id": ids})
    given: dict[str, Any] = {
        "files": open_rows(folder, summary.log, ["a"]),
        "encoder": RowEncoder(summary.log, vocabulary),
        "score": score,
        "batch_size": 4,
        "keep": ("a",),
        "refuse_bad": False,
        "summary": summary,
        "checkpoint": "ab",
    }
    RowsToScore(**(given | changes)).write(tmp_path / "scored.parquet")
    return ScoredRows(tmp_path / "scored.parquet")


def test_rows_come_in_multiples_of_the_batch_whatever_the_files_and_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_blocks, "_BLOCK_BYTES", 16)
    values = [str(value) for value in range(1, 64)]
    texts = ["\n".join(values[:10]), "\n".join(values[10:11]), "\n".join(values[11:])]
    lots: list[int] = []
    frame = scored(tmp_path, lots, texts).frame()
    assert frame["row"].tolist() == [*range(63)]
    assert frame["a"].tolist() == values
    assert frame["probability"].tolist() == [int(value) / 1000 for value in values]
    assert all(rows % 4 == 0 for rows in lots[:-1])
    assert sum(lots) == 63
    assert len(lots) > 5


@pytest.mark.parametrize(("unknown", "doubled"), [(12, True), (11, False)])
def test_a_share_of_unknown_values_is_told_beside_trainings(
    tmp_path: Path, unknown: int, doubled: bool
) -> None:
    report = scored(tmp_path, [], ["1\n" * (60 - unknown) + "never\n" * unknown]).report()
    drift = report.unknown["a"]
    assert drift.rows == pytest.approx(unknown / 60)
    assert (drift.train, drift.valid, drift.doubled) == (0.1, 0.1, doubled)
    assert report.mean_probability == pytest.approx((60 - unknown) / 60 / 1000)


def test_a_few_unknown_values_are_no_alarm(tmp_path: Path) -> None:
    drift = scored(tmp_path, [], ["1\n" + "never\n" * 9]).report().unknown["a"]
    assert drift.rows == 0.9
    assert not drift.doubled


def test_rows_without_a_score_are_counted_and_left_out_of_the_mean(tmp_path: Path) -> None:
    rows = scored(tmp_path, [], ["1\n2,2\n3\n"])
    report = rows.report()
    assert (report.rows, report.unscored, report.files) == (3, 1, ("0.csv",))
    assert report.mean_probability == pytest.approx(0.002)
    assert rows.frame()["probability"].isna().tolist() == [False, True, False]


def test_a_file_of_a_header_alone_gives_no_rows(tmp_path: Path) -> None:
    rows = scored(tmp_path, [], [""])
    assert len(rows.frame()) == 0
    assert rows.report().mean_probability is None

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from llm_ctr_pipeline.data.synthetic.manifest import (
    MadeLog,
    Manifest,
    auc_of_truth,
    provide,
    read_manifest,
)


class Log(MadeLog):
    manifest_name: ClassVar[str] = "log.json"

    version: Literal[2] = 2
    rows: int


def write(folder: Path) -> dict[str, float | None]:
    (folder / "train.csv").write_text("written")
    return {"train": None}


@pytest.mark.parametrize(
    "content",
    [
        {"version": 1, "rows": 3, "best_auc": {"train": None}},
        {"version": 2, "rows": 4, "best_auc": {"train": None}},
        {"version": 2, "lines": 3},
    ],
    ids=["version", "settings", "keys"],
)
def test_a_log_of_another_version_or_settings_is_replaced(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "train.csv").write_text("before")
    (folder / "log.json").write_text(json.dumps(content))
    held = read_manifest(folder, Log)
    assert held is not None
    assert held.log != Log(rows=3)
    made = provide(folder, Log(rows=3), ["train"], "it stays", write)
    assert made == read_manifest(folder, Log) == Manifest(Log(rows=3), {"train": None})
    assert (folder / "train.csv").read_text() == "written"


def test_a_log_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise ValueError("no rows")

    provide(tmp_path / "log", Log(rows=3), ["train"], "it stays", write)
    with pytest.raises(ValueError, match="no rows"):
        provide(tmp_path / "log", Log(rows=4), ["train"], "it stays", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert read_manifest(tmp_path / "log", Log) == Manifest(Log(rows=3), {"train": None})


def test_a_split_of_one_class_has_no_auc() -> None:
    probabilities = np.array([0.1, 0.2, 0.4])
    assert auc_of_truth(np.array([1, 1, 1], dtype=np.int8), probabilities) is None
    assert auc_of_truth(np.array([0, 1, 1], dtype=np.int8), probabilities) == 1.0

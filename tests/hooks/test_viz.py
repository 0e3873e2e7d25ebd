import json
from pathlib import Path

import pandas as pd
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from llm_ctr_pipeline.hooks.viz import STATISTICS, VizHook, statistics_of


def test_kedro_viz_knows_what_the_files_of_a_run_hold(finished_run: Path) -> None:
    found = json.loads((finished_run / STATISTICS).read_text(encoding="utf-8"))
    rows = {"train_encoded": 2000, "test_encoded": 500, "single_phase.test_predictions": 500}
    assert {name: found[name]["rows"] for name in rows} == rows
    assert found["raw_rows"]["rows"] == 3000
    weights = finished_run / "data/06_models/single_phase/best_model/model.safetensors"
    assert found["single_phase.best_model"]["file_size"] > weights.stat().st_size
    # The vocabulary in its folder is not the model.
    assert "rows" not in found["single_phase.best_model"]


def test_what_other_runs_left_is_still_known(tmp_path: Path) -> None:
    file = tmp_path / STATISTICS
    file.parent.mkdir()
    file.write_text('{"train_encoded": {"rows": 3}}', encoding="utf-8")
    hook = VizHook()
    hook.before_pipeline_run({"project_path": tmp_path})
    file.write_text("{}", encoding="utf-8")  # as Kedro-Viz does
    hook.after_pipeline_run({"project_path": tmp_path}, Pipeline([]), DataCatalog())
    assert json.loads(file.read_text(encoding="utf-8")) == {"train_encoded": {"rows": 3}}


def test_tables_of_many_files_are_counted_together(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    table = tmp_path / "train.parquet"
    table.mkdir()
    for part in range(3):
        frame.to_parquet(table / f"part-{part}.parquet")
    counted = statistics_of(table, is_table=True)
    assert (counted["rows"], counted["columns"]) == (6, 2)
    (table / "part-1.parquet").write_bytes(b"damaged")
    assert statistics_of(table, is_table=True)["rows"] == 4
    assert [*statistics_of(table, is_table=False)] == ["file_size"]

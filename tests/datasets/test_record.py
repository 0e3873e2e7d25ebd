import json
import re
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog, DatasetError
from kedro_datasets.json import JSONDataset

from llm_ctr_pipeline.cli import refusal_in
from llm_ctr_pipeline.data.storage.store_path import parse_path
from llm_ctr_pipeline.datasets.record import RECORDS, RecordDataset, RecordError
from llm_ctr_pipeline.training.history import TrainingResults

VALIDATION = {
    **{"epoch": 1.0, "step": 469, "train_loss": 0.4, "train_accuracy": 83.2, "valid_loss": 0.37},
    **{"valid_accuracy": 84.4, "valid_auc": 0.1 + 0.2, "valid_logloss": 0.37, "seconds": 21.6},
    **{"rows_per_second": 2768.25, "improved": True},
}
RESULTS: dict[str, Any] = {
    **{"path": "deepfm", "dataset": "x4", "source": "généré", "seed": 42, "stopped_early": True},
    **{"best": VALIDATION, "seconds": 64.5, "rows_per_second": 2787.7, "parameters": 347328},
    "trained_parameters": 347328,
    "stages": [
        {
            **{"stage": "end_to_end", "dataset": "x4"},
            "trained_on": {"rows": "3a00", "feature_map": "92a4"},
            **{"components": ["embedding", "gen"], "trained_parameters": 347328},
            **{"stopped_early": True, "best": VALIDATION, "seconds": 64.5},
        }
    ],
    "epochs": [{"stage": "end_to_end", "dataset": "x4", **VALIDATION, "best": True}],
}


def test_a_record_comes_back(tmp_path: Path) -> None:
    dataset = RecordDataset(str(tmp_path / "new" / "results.json"), "training_results")
    assert not dataset.exists()
    results = TrainingResults.from_json(RESULTS)
    dataset.save(results)
    assert dataset.exists()
    assert dataset.load() == results
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["results.json"]


def test_the_file_is_as_kedros_json_dataset_writes_it(tmp_path: Path) -> None:
    RecordDataset(str(tmp_path / "ours.json"), "training_results").save(
        TrainingResults.from_json(RESULTS)
    )
    JSONDataset(filepath=str(tmp_path / "kedros.json")).save(RESULTS)
    assert (tmp_path / "ours.json").read_bytes() == (tmp_path / "kedros.json").read_bytes()


def test_a_record_on_a_store_comes_back(store: str) -> None:
    dataset = RecordDataset(f"{store}/results.json", "training_results")
    results = TrainingResults.from_json(RESULTS)
    dataset.save(results)
    assert dataset.load() == results
    assert json.loads(parse_path(f"{store}/results.json").read_text(encoding="utf-8")) == RESULTS


def test_the_catalog_makes_it_and_mlflow_logs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = []
    monkeypatch.setattr("mlflow.log_artifact", lambda path, _folder: logged.append(path))
    file = str(tmp_path / "results.json")
    entry = {
        "type": "kedro_mlflow.io.artifacts.MlflowArtifactDataset",
        "dataset": {
            "type": "llm_ctr_pipeline.datasets.record.RecordDataset",
            "record": "training_results",
            "filepath": file,
        },
    }
    catalog = DataCatalog.from_config({"results": entry})
    results = TrainingResults.from_json(RESULTS)
    catalog.save("results", results)
    assert catalog.load("results") == results
    assert logged == [file]


def test_kedro_viz_gets_a_preview(tmp_path: Path) -> None:
    dataset = RecordDataset(str(tmp_path / "results.json"), "training_results")
    dataset.save(TrainingResults.from_json(RESULTS))
    assert json.loads(dataset.preview()) == RESULTS
    # Kedro-Viz picks its view by the name of what preview returns.
    assert RecordDataset.preview.__annotations__["return"].__name__ == "JSONPreview"


def test_another_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"choose one of {', '.join(RECORDS)}"):
        RecordDataset(str(tmp_path / "results.json"), "result")
    dataset = RecordDataset(str(tmp_path / "results.json"), "comparison")
    with pytest.raises(DatasetError, match="holds a Comparison, not"):
        dataset.save(TrainingResults.from_json(RESULTS))
    assert not dataset.exists()


def test_a_file_that_holds_no_such_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({**RESULTS, "seed": "none"}))
    with pytest.raises(DatasetError, match="seed"):
        RecordDataset(str(tmp_path / "results.json"), "training_results").load()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (RESULTS | {"best": VALIDATION | {"step": "many"}}, r"best\.step: Input should be"),
        (RESULTS | {"colour": "blue"}, "colour: Extra inputs are not permitted"),
    ],
)
def test_a_refusal_names_the_file_and_the_key(
    tmp_path: Path, content: dict[str, Any], fault: str
) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DatasetError) as caught:
        RecordDataset(str(file), "training_results").load()
    refusal = refusal_in(caught.value)
    assert isinstance(refusal, RecordError)
    assert re.match(
        rf"{re.escape(str(file))} is not as this version writes it \({fault}", str(refusal)
    )

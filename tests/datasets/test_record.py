import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog, DatasetError
from kedro_datasets.json import JSONDataset

from llm_ctr_pipeline.cli import refusal_in
from llm_ctr_pipeline.data.errors import RefusedError, StaleDataError
from llm_ctr_pipeline.data.storage.record_text import RecordError, digest_of, to_text
from llm_ctr_pipeline.data.storage.store_path import parse_path
from llm_ctr_pipeline.datasets.record import RECORDS, RecordDataset
from llm_ctr_pipeline.training.history import TrainingResults
from tests.records import RAN, content_of, rewrite

VALIDATION = {
    **{"epoch": 1.0, "step": 469, "train_loss": 0.4, "train_accuracy": 83.2, "valid_loss": 0.37},
    **{"valid_accuracy": 84.4, "valid_auc": 0.1 + 0.2, "valid_logloss": 0.37, "lr": 5e-4},
    **{"seconds": 21.6, "rows_per_second": 2768.25, "improved": True},
}
RESULTS: dict[str, Any] = {
    **{"path": "deepfm", "dataset": "x4", "source": "généré", "seed": 42, "settings": "5e77"},
    **{"stopped_early": True},
    **{"best": VALIDATION, "seconds": 64.5, "rows_per_second": 2787.7, "parameters": 347328},
    "trained_parameters": 347328,
    "stages": [
        {
            **{"stage": "end_to_end", "dataset": "x4"},
            "trained_on": {"rows": "3a00", "feature_map": "92a4"},
            **{"components": ["embedding", "gen"], "trained_parameters": 347328},
            **{"stopped_early": True, "best": VALIDATION, "seconds": 64.5, "ran": RAN.to_json()},
            "losses": [[12, 0.4], [24, 0.39]],
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


def test_the_file_is_as_kedros_json_dataset_writes_it_but_for_the_digest(tmp_path: Path) -> None:
    RecordDataset(str(tmp_path / "ours.json"), "training_results").save(
        TrainingResults.from_json(RESULTS)
    )
    content = {**RESULTS, "sha256": digest_of(RESULTS)}
    JSONDataset(filepath=str(tmp_path / "kedros.json")).save(content)
    assert (tmp_path / "ours.json").read_bytes() == (tmp_path / "kedros.json").read_bytes()


def test_a_record_on_a_store_comes_back(store: str) -> None:
    dataset = RecordDataset(f"{store}/results.json", "training_results")
    results = TrainingResults.from_json(RESULTS)
    dataset.save(results)
    assert dataset.load() == results
    assert content_of(parse_path(f"{store}/results.json")) == RESULTS


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
    assert json.loads(dataset.preview()) == {**RESULTS, "sha256": digest_of(RESULTS)}
    # Kedro-Viz picks its view by the name of what preview returns.
    assert RecordDataset.preview.__annotations__["return"].__name__ == "JSONPreview"


def test_another_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"choose one of {', '.join(RECORDS)}"):
        RecordDataset(str(tmp_path / "results.json"), "result")
    dataset = RecordDataset(str(tmp_path / "results.json"), "comparison")
    with pytest.raises(DatasetError, match="holds a Comparison, not"):
        dataset.save(TrainingResults.from_json(RESULTS))
    assert not dataset.exists()


def damaged(file: Path, change: Callable[[bytes], bytes]) -> None:
    file.write_bytes(change(file.read_bytes()))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a digit": lambda content: content.replace(b"64.5", b"64.4", 1),
    "cut off": lambda content: content[:-20],
    "empty": lambda _: b"",
    "zeros": lambda content: bytes(len(content)),
    "no UTF-8": lambda content: content.replace(b"deepfm", b"\xffeepfm"),
    "a list": lambda content: b"[" + content + b"]",
    "no digest": lambda content: content.replace(b"sha256", b"sha512"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_what_makes_it_again(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "deepfm" / "results.json"
    RecordDataset(str(file), "training_results").save(TrainingResults.from_json(RESULTS))
    damaged(file, DAMAGES[damage])
    assert re.fullmatch(
        rf"{re.escape(str(file))} is not as this version writes it \(.*\): run "
        r"`kedro run --pipeline=train_deepfm` again",
        refusal_of(file, RecordError),
    )


def test_records_of_preprocessing_say_so(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    file.write_text("{}")
    said = refusal_of(file, StaleDataError, "summary")
    assert "it lacks dataset, log, feature_map, fingerprint, extends, source, best_auc" in said


def refusal_of(file: Path, kind: type[RefusedError], record: str = "training_results") -> str:
    with pytest.raises(DatasetError) as caught:
        RecordDataset(str(file), record).load()
    refusal = refusal_in(caught.value)
    assert isinstance(refusal, kind)
    return str(refusal)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda content: content["best"].update(step="many"), "best.step: Input should be a valid"),
        (lambda content: content.update(colour="blue"), "it has colour besides"),
        (lambda content: content["best"].pop("step"), "it lacks best.step"),
        (lambda content: content.update(seed=content.pop("path")), "it lacks path; seed: Input"),
    ],
)
def test_a_refusal_names_the_file_and_the_key(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], fault: str
) -> None:
    file = tmp_path / "results.json"
    file.write_text(to_text(TrainingResults.from_json(RESULTS)))
    rewrite(file, change)
    said = refusal_of(file, RecordError)
    assert said.startswith(f"{file} is not as this version writes it ({fault}")


def test_what_another_run_put_there_is_refused(tmp_path: Path) -> None:
    """A catalog is one run's: what it tests must be what it trained."""
    file = str(tmp_path / "results.json")
    ours, theirs = (RecordDataset(file, "training_results") for _ in range(2))
    results = TrainingResults.from_json(RESULTS)
    ours.save(results)
    assert ours.load() == theirs.load() == results
    theirs.save(results.model_copy(update={"seed": 43}))
    with pytest.raises(DatasetError, match=r"results\.json was replaced by another run while"):
        ours.load()
    ours.save(results)
    assert ours.load() == results

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kedro.io import DataCatalog, DatasetError

from llm_ctr_pipeline.datasets.checkpoint import CheckpointDataset
from llm_ctr_pipeline.training.checkpoint import FILES, MANIFEST, Checkpoint

BEST_MODEL = Path("data/06_models/single_phase/best_model")


@pytest.fixture
def checkpoint(finished_run: Path) -> Checkpoint:
    return CheckpointDataset(str(finished_run / BEST_MODEL)).load()


def test_what_is_saved_is_loaded(checkpoint: Checkpoint, tmp_path: Path) -> None:
    dataset = CheckpointDataset(str(tmp_path / "new" / "best_model"))
    dataset.save(checkpoint)
    assert {file.name for file in (tmp_path / "new" / "best_model").iterdir()} == {
        *FILES,
        "tokenizer.json",
        "tokenizer_config.json",
        MANIFEST,
    }
    loaded = dataset.load()
    assert loaded.model == checkpoint.model
    assert loaded.feature_map == checkpoint.feature_map
    assert loaded.vocabulary.equals(checkpoint.vocabulary)
    assert loaded.training == checkpoint.training
    assert loaded.tokenizer.get_vocab() == checkpoint.tokenizer.get_vocab()
    ids_BF = torch.zeros(2, len(checkpoint.feature_map.fields), dtype=torch.int32)
    with torch.inference_mode():
        assert torch.equal(loaded.build()(ids_BF), checkpoint.build()(ids_BF))


def test_it_exists_once_it_is_saved(checkpoint: Checkpoint, tmp_path: Path) -> None:
    dataset = CheckpointDataset(str(tmp_path / "best_model"))
    assert not dataset.exists()
    (tmp_path / "best_model").mkdir()
    assert not dataset.exists()
    dataset.save(checkpoint)
    assert dataset.exists()


def test_it_exists_where_a_kill_left_it_moved_away(tmp_path: Path) -> None:
    (moved := tmp_path / ".best_model-killed" / "replaced").mkdir(parents=True)
    (moved / "config.json").touch()
    assert CheckpointDataset(str(tmp_path / "best_model")).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["best_model"]


def test_an_empty_folder_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no checkpoint: .* run `kedro run --pipeline=train`"):
        CheckpointDataset(str(tmp_path)).load()


def test_one_of_another_run_is_refused_with_its_path(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder = tmp_path / "two_phase" / "best_model"
    ours, theirs = CheckpointDataset(str(folder)), CheckpointDataset(str(folder))
    ours.save(checkpoint)
    assert ours.load().files == theirs.load().files
    other = checkpoint.training.model_copy(update={"seed": 43})
    theirs.save(replace(checkpoint, training=other))
    with pytest.raises(DatasetError, match="best_model was replaced by another run while this"):
        ours.load()
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"is damaged .* run `kedro run --pipeline=train_two_ph"):
        ours.load()


def test_the_catalog_makes_one_with_its_layer(tmp_path: Path) -> None:
    entry = {
        "type": "llm_ctr_pipeline.datasets.checkpoint.CheckpointDataset",
        "filepath": str(tmp_path / "best_model"),
        "metadata": {"kedro-viz": {"layer": "models"}},
    }
    dataset = DataCatalog.from_config({"model": entry}).get("model")
    assert isinstance(dataset, CheckpointDataset)
    assert dataset.metadata == {"kedro-viz": {"layer": "models"}}
    assert str(tmp_path / "best_model") in str(dataset)

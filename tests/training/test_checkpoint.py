import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pytest
import torch
from transformers import PreTrainedModel

from llm_ctr_pipeline.data.features.feature_map import (
    FeatureMap,
    Field,
    FingerprintError,
    FitSource,
)
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.prompt import build_small_tokenizer
from llm_ctr_pipeline.training import checkpoint as checkpoint_module
from llm_ctr_pipeline.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from llm_ctr_pipeline.training.history import Provenance, ValidationRecord

MakeLm = Callable[..., PreTrainedModel]
MakeModel = Callable[..., LlmCtr]

IDS_BF = torch.tensor([[0, 1, 2], [2, 4, 3], [1, 0, 0], [2, 2, 1]])
FILES = [
    "config.json",
    "feature_map.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocabulary.parquet",
]
FEATURE_MAP = FeatureMap(
    dataset="x4",
    fields=(Field(name="a", size=3), Field(name="b", size=5), Field(name="c", size=4)),
    min_count=2,
    fit_on=FitSource(
        source="generated log", file="train.csv", rows=100, clicks=17, fingerprint="ab" * 32
    ),
    fingerprint="cd" * 32,
)
PROVENANCE = Provenance(
    path="single_phase",
    stage="end_to_end",
    dataset="x4",
    source="generated log",
    seed=42,
    best=ValidationRecord(
        epoch=1.0,
        step=469,
        train_loss=0.4,
        train_accuracy=83.2,
        valid_loss=0.37,
        valid_accuracy=84.4,
        valid_auc=0.1 + 0.2,
        valid_logloss=0.37,
        seconds=21.6,
        rows_per_second=2768.25,
        improved=True,
    ),
    origin=None,
)


@pytest.fixture
def model(make_model: MakeModel) -> LlmCtr:
    return make_model().eval()


@pytest.fixture
def checkpoint(model: LlmCtr) -> Checkpoint:
    return make_checkpoint(model)


def make_checkpoint(model: LlmCtr) -> Checkpoint:
    return Checkpoint(
        model=model.describe(),
        weights=model.state_dict(),
        feature_map=FEATURE_MAP,
        vocabulary=pa.table(
            {"field": ["a", "a"], "value": ["1e5", "00x"], "count": [7, 2], "id": [1, 2]}
        ),
        tokenizer=build_small_tokenizer("Answer with 0 or 1:", 300),
        training=PROVENANCE,
    )


@pytest.fixture
def folder(tmp_path: Path, checkpoint: Checkpoint) -> Path:
    folder = tmp_path / "06_models" / "single_phase" / "best_model"
    save_checkpoint(folder, checkpoint)
    return folder


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "phi", "gpt2"])
def test_a_checkpoint_comes_back_as_it_was_saved(
    tmp_path: Path, make_causal_lm: MakeLm, make_model: MakeModel, architecture: str
) -> None:
    model = make_model(make_causal_lm(architecture)).eval()
    saved = make_checkpoint(model)
    save_checkpoint(tmp_path / "best_model", saved)
    loaded = load_checkpoint(tmp_path / "best_model")
    assert loaded.model == saved.model
    assert loaded.model.to_json() == json.loads(json.dumps(saved.model.to_json()))
    assert loaded.feature_map == saved.feature_map
    assert loaded.vocabulary.equals(saved.vocabulary)
    assert loaded.training == saved.training
    text = "Answer with 0 or 1: 点"
    assert loaded.tokenizer(text)["input_ids"] == saved.tokenizer(text)["input_ids"]
    built = loaded.build()
    assert not built.training
    assert torch.equal(built.answer_logits(IDS_BF), model.answer_logits(IDS_BF))


def test_the_folder_holds_what_is_documented_and_no_pickle(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["best_model"]
    for path in folder.iterdir():
        # A pickle begins with PROTO, and a file of torch.save is a zip.
        assert path.read_bytes()[:2] not in {bytes((0x80, v)) for v in range(6)} | {b"PK"}


def test_the_config_says_what_the_model_is(folder: Path, checkpoint: Checkpoint) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["format_version"] == 2
    assert config["feature_map_fingerprint"] == FEATURE_MAP.fingerprint
    assert config["training"] == checkpoint.training.to_json()
    assert config["model"]["field_sizes"] == [3, 5, 4]
    assert config["model"]["llm"]["config"]["model_type"] == "qwen3"


def test_a_copy_elsewhere_is_all_that_is_needed(
    folder: Path, tmp_path: Path, model: LlmCtr, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere" / "renamed"
    shutil.copytree(folder, elsewhere)
    shutil.rmtree(tmp_path / "06_models")
    monkeypatch.chdir(elsewhere.parent)
    built = load_checkpoint(Path("renamed")).build()
    assert torch.equal(built(IDS_BF), model(IDS_BF))


@pytest.mark.parametrize("missing", FILES)
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(folder)
    assert f"{folder} is no checkpoint: {missing} is missing" in str(raised.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere is no checkpoint: config\.json is missing"):
        load_checkpoint(tmp_path / "nowhere")


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_another_format_is_refused(folder: Path) -> None:
    change_config(folder, format_version=3)
    with pytest.raises(CheckpointError, match=r"format 3, and this version reads format 2: train"):
        load_checkpoint(folder)


def test_a_feature_map_that_is_not_the_models_is_refused(folder: Path) -> None:
    other = FEATURE_MAP.model_copy(update={"fingerprint": "ef" * 32})
    (folder / "feature_map.json").write_text(json.dumps(other.to_json()))
    with pytest.raises(FingerprintError, match=r"efefefefefef .* encoded with cdcdcdcdcdcd"):
        load_checkpoint(folder)


@pytest.mark.parametrize("failing", ["save_file", "_write_json"])
def test_a_failed_save_leaves_the_checkpoint_before(
    folder: Path,
    model: LlmCtr,
    make_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError("no space left on device")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(checkpoint_module, failing, fail)
    other = make_model()
    other.gen.generate.weight.data.zero_()
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(folder, make_checkpoint(other))
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert torch.equal(load_checkpoint(folder).build()(IDS_BF), model(IDS_BF))
    # What the failure left behind is in nobody's way.
    save_checkpoint(folder, make_checkpoint(other))
    assert not load_checkpoint(folder).build().gen.generate.weight.any()
    assert [path.name for path in folder.parent.iterdir()] == ["best_model"]


def test_a_checkpoint_is_replaced_as_a_whole(folder: Path, checkpoint: Checkpoint) -> None:
    (folder / "left from before.txt").touch()
    save_checkpoint(folder, checkpoint)
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_weights_of_another_model_do_not_load(checkpoint: Checkpoint) -> None:
    lacking = {
        name: w for name, w in checkpoint.weights.items() if name != "embedding.table.weight"
    }
    with pytest.raises(RuntimeError, match=r"Missing key.*embedding\.table\.weight"):
        replace(checkpoint, weights=lacking).build()

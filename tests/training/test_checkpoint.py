import json
import re
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
from tests.decoders import EVERYTHING
from tests.records import rewrite, summary_of

MakeLm = Callable[..., PreTrainedModel]
MakeModel = Callable[..., LlmCtr]

IDS_BF = torch.tensor([[0, 1, 2], [2, 4, 3], [1, 0, 0], [2, 2, 1]])
FILES = [
    "config.json",
    "feature_map.json",
    "manifest.json",
    "model.safetensors",
    "summary.json",
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
        lr=5e-4,
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
        summary=summary_of("x4"),
        tokenizer=build_small_tokenizer("Answer with 0 or 1:", 300),
        training=PROVENANCE,
    )


@pytest.fixture
def folder(tmp_path: Path, checkpoint: Checkpoint) -> Path:
    folder = tmp_path / "06_models" / "single_phase" / "best_model"
    save_checkpoint(folder, checkpoint)
    return folder


@pytest.mark.parametrize(
    ("architecture", "parts"),
    [("qwen3", {}), ("qwen3", EVERYTHING), ("llama", {}), ("phi", {}), ("gpt2", {})],
)
def test_a_checkpoint_comes_back_as_it_was_saved(
    tmp_path: Path,
    make_causal_lm: MakeLm,
    make_model: MakeModel,
    architecture: str,
    parts: dict[str, Any],
) -> None:
    model = make_model(make_causal_lm(architecture), **parts).eval()
    saved = make_checkpoint(model)
    files = save_checkpoint(tmp_path / "best_model", saved)
    loaded = load_checkpoint(tmp_path / "best_model")
    assert loaded.model == saved.model
    assert loaded.model.to_json() == json.loads(json.dumps(saved.model.to_json()))
    assert loaded.feature_map == saved.feature_map
    assert loaded.vocabulary.equals(saved.vocabulary)
    assert loaded.training == saved.training
    assert loaded.summary == saved.summary
    assert loaded.files == files
    text = "Answer with 0 or 1: 点"
    assert loaded.tokenizer(text)["input_ids"] == saved.tokenizer(text)["input_ids"]
    built = loaded.build()
    assert not built.training
    assert torch.equal(built(IDS_BF), model(IDS_BF))


def test_the_folder_holds_what_is_documented_and_no_pickle(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["best_model"]
    for path in folder.iterdir():
        # A pickle begins with PROTO, and a file of torch.save is a zip.
        assert path.read_bytes()[:2] not in {bytes((0x80, v)) for v in range(6)} | {b"PK"}


def test_the_config_says_what_the_model_is(folder: Path, checkpoint: Checkpoint) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert sorted(config) == [
        *("feature_map_fingerprint", "model", "sha256", "tokenizer", "training")
    ]
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


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def zeros(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("damage", [flip_a_bit, cut_off, empty, zeros, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(folder: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(folder / name)
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(folder)
    said = str(raised.value)
    assert str(folder) in said
    # A manifest with another digest in it accuses the file whose digest that was.
    assert name in said or name == "manifest.json"
    assert "\n" not in said


def swap_fields(content: dict[str, Any]) -> None:
    content["fields"] = [*reversed(content["fields"])]


def edit_a_size(content: dict[str, Any]) -> None:
    content["fields"][0]["size"] += 1


def drop_a_key(content: dict[str, Any]) -> None:
    del content[next(iter(content))]


def add_a_key(content: dict[str, Any]) -> None:
    content["colour"] = "blue"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("feature_map.json", swap_fields),
        ("feature_map.json", edit_a_size),
        *((name, drop_a_key) for name in FILES[:2]),
        *((name, add_a_key) for name in FILES[:2]),
    ],
)
def test_an_edited_record_is_refused_even_if_its_own_digest_is_right(
    folder: Path, name: str, change: Callable[[dict[str, Any]], None]
) -> None:
    rewrite(folder / name, change)
    with pytest.raises(CheckpointError, match=re.escape(f"{folder / name} is damaged or another")):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", [FILES[at] for at in (0, 1, 3, 5, 7)])
def test_a_file_of_another_checkpoint_is_refused(
    folder: Path, tmp_path: Path, make_model: MakeModel, name: str
) -> None:
    model = make_model()
    model.gen.generate.weight.data.zero_()
    other = replace(
        make_checkpoint(model),
        feature_map=FEATURE_MAP.model_copy(update={"min_count": 3}),
        training=PROVENANCE.model_copy(update={"seed": 43}),
        summary=summary_of("x4"),
        tokenizer=build_small_tokenizer("Another prompt: 0 or 1?", 310),
        vocabulary=pa.table({"field": ["a"], "value": ["x"], "count": [7], "id": [1]}),
    )
    save_checkpoint(tmp_path / "other", other)
    shutil.copy(tmp_path / "other" / name, folder / name)
    with pytest.raises(CheckpointError, match=re.escape(f"{folder / name} is damaged or another")):
        load_checkpoint(folder)


def test_a_foreign_file_is_named(folder: Path) -> None:
    (folder / "added_tokens.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"added_tokens\.json is no part of the checkpoint"):
        load_checkpoint(folder)
    (folder / "added_tokens.json").rename(folder / ".hidden")
    load_checkpoint(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere is no checkpoint: config\.json is missing"):
        load_checkpoint(tmp_path / "nowhere")


def test_another_format_is_refused(folder: Path) -> None:
    rewrite(folder / "manifest.json", lambda content: content.update(format_version=3))
    with pytest.raises(CheckpointError, match=r"checkpoint format 3, .* reads format 5$"):
        load_checkpoint(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"no manifest\.json: an earlier version .* wrote it"):
        load_checkpoint(folder)


def test_a_manifest_that_lists_too_little_is_refused(folder: Path) -> None:
    rewrite(folder / "manifest.json", lambda content: content["files"].pop("model.safetensors"))
    with pytest.raises(CheckpointError, match=r"model\.safetensors is no part"):
        load_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load_checkpoint(folder)


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_refused(
    folder: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoint_module.load_file
    other = replace(checkpoint, training=PROVENANCE.model_copy(update={"seed": 43}))

    def replacing(file: Path) -> dict[str, torch.Tensor]:
        save_checkpoint(folder, other)
        return real(file)

    monkeypatch.setattr(checkpoint_module, "load_file", replacing)
    with pytest.raises(CheckpointError, match="was replaced while it was being read"):
        load_checkpoint(folder)


@pytest.mark.parametrize("failing", ["save_file", "_write", "digest_of_files"])
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

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from llm_ctr_pipeline.models.acceptance.files import DamagedModelError, check_files, check_weights

MakeLm = Callable[..., PreTrainedModel]

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path, make_causal_lm: MakeLm) -> Path:
    make_causal_lm().bfloat16().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "vocab.txt").write_text("0\n1\n")
    return tmp_path


def refused(folder: Path) -> str:
    with pytest.raises(DamagedModelError) as raised:
        check_files(folder)
    message = str(raised.value)
    assert message.startswith(f"language model {str(folder)!r}: ")
    assert "\n" not in message
    return message


def test_a_whole_folder_is_taken(folder: Path) -> None:
    check_files(folder)


@pytest.mark.parametrize("length", [0, 7, 100, 20_000])
def test_weights_that_were_cut_off_are_named(folder: Path, length: int) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:length])
    assert "model.safetensors is damaged or cut off (" in refused(folder)


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json", "config.json", "vocab.txt"])
def test_a_pointer_of_git_lfs_is_told_as_such(folder: Path, name: str) -> None:
    (folder / name).write_text(POINTER)
    message = refused(folder)
    assert f"{name} is a pointer of git-lfs and not the file itself" in message
    assert "git lfs pull" in message


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"", b'{"a": [1,', b"\xff\xfe\x00"])
def test_a_text_that_is_no_json_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert f"{name} is damaged or cut off (" in refused(folder)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    check_files(folder)
    (folder / "vocab.txt").rename(folder / "tokenizer_config.json")
    (folder / "tokenizer_config.json").write_text("{}")
    assert "no file of a tokenizer is there, such as tokenizer.json" in refused(folder)


def test_a_file_that_the_index_names_and_that_is_missing_is_named(
    folder: Path, make_causal_lm: MakeLm
) -> None:
    (folder / WEIGHTS).unlink()
    make_causal_lm().save_pretrained(folder, max_shard_size="20KB")
    check_files(folder)
    shards = sorted(folder.glob("model-0*"))
    shards[1].write_bytes(b"")
    assert f"{shards[1].name} is damaged or cut off" in refused(folder)
    shards[1].unlink()
    missing = f"1 of {len(shards)} files of weights are missing, {shards[1].name} the first"
    assert missing in refused(folder)
    (folder / "model.safetensors.index.json").write_text("[]")
    assert "index.json is damaged or cut off (it names no files of weights)" in refused(folder)


def test_quantised_weights_are_refused(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["model.layers.0.mlp.up_proj.weight"] = torch.zeros(48, 32, dtype=torch.int8)
    weights["model.layers.0.mask"] = torch.zeros(2, dtype=torch.bool)
    save_file(weights, folder / WEIGHTS)
    message = refused(folder)
    assert "model.safetensors holds model.layers.0.mlp.up_proj.weight as I8, quantised" in message


def test_files_that_are_not_read_do_not_matter(folder: Path) -> None:
    (folder / "consolidated.safetensors").write_text(POINTER)
    (folder / "pytorch_model.bin").write_text(POINTER)
    (folder / "modules.json").write_text(json.dumps([1, 2]))
    check_files(folder)


def test_missing_weights_are_counted_and_the_models_first_is_named(make_causal_lm: MakeLm) -> None:
    causal_lm = make_causal_lm()
    check_weights("small", causal_lm, [])
    missing = ["model.norm.weight", "model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(DamagedModelError, match=r"2 of its 24 .*, model.layers.1.mlp.up_proj"):
        check_weights("small", causal_lm, missing)

"""Files that were damaged or exchanged between two runs, and while one works."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kedro.io import DatasetError

from llm_ctr_pipeline.training import checkpoint
from llm_ctr_pipeline.training.checkpoint import Checkpoint, save_checkpoint

Snapshot = Callable[[Path], dict[str, bytes]]

BEST_MODEL = "06_models/single_phase/best_model"


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def weights(data: Path) -> None:
    flip_a_bit(data / BEST_MODEL / "model.safetensors")


def valid_for_train(data: Path) -> None:
    encoded = data / "05_model_input/x4"
    shutil.copy(encoded / "valid.parquet", encoded / "train.parquet")


def valid_for_test(data: Path) -> None:
    encoded = data / "05_model_input/x4"
    shutil.copy(encoded / "valid.parquet", encoded / "test.parquet")


def a_size(data: Path) -> None:
    file = data / "04_feature/x4/feature_map.json"
    file.write_text(file.read_text().replace('"size": ', '"size": 1', 1))


def a_vocabulary(data: Path) -> None:
    flip_a_bit(data / "04_feature/x4/vocabulary.parquet")


PREPROCESS = "run `kedro run --env test --pipeline=preprocess` again"
DAMAGES = {
    weights: (
        "evaluate",
        "best_model/model.safetensors is damaged",
        "run `kedro run --env test --pipeline=train`",
    ),
    valid_for_train: ("train", "x4/train.parquet does not hold the rows that", PREPROCESS),
    valid_for_test: ("evaluate", "x4/test.parquet does not hold the rows that", PREPROCESS),
    a_size: ("train", "x4/feature_map.json is not as this version writes it", PREPROCESS),
    a_vocabulary: ("train", "x4/vocabulary.parquet ", PREPROCESS),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_ends_a_run_in_one_line_and_changes_nothing(
    damage: Callable[[Path], None],
    trained_project: Path,
    kedro_run: Callable[..., subprocess.CompletedProcess[str]],
    snapshot: Snapshot,
) -> None:
    pipeline, said, cure = DAMAGES[damage]
    damage(trained_project / "data")
    before = snapshot(trained_project)
    done = kedro_run(trained_project, "--env", "test", f"--pipeline={pipeline}")
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("Error: "))
    assert said in line
    assert cure in line
    assert "Traceback" not in done.stdout + done.stderr
    after = snapshot(trained_project)
    # A training of the same settings begins anew, so the state of the finished one goes.
    assert {name: content for name, content in before.items() if "interrupted" not in name} == {
        name: content for name, content in after.items() if "interrupted" not in name
    }


def test_what_is_tested_is_what_was_trained(
    trained_project: Path,
    run_here: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another process puts its checkpoint in place before this one tests its own."""
    theirs = trained_project / "theirs"
    shutil.copytree(trained_project / "data" / BEST_MODEL, theirs)

    def and_then_replaced(folder: Path, ours: Checkpoint) -> dict[str, str]:
        files = save_checkpoint(folder, ours)
        shutil.rmtree(folder)
        shutil.copytree(theirs, folder)
        return files

    report = trained_project / "data/08_reporting/single_phase/evaluation_x4_test.json"
    before = report.read_bytes()
    monkeypatch.setattr(checkpoint, "save_checkpoint", and_then_replaced)
    with pytest.raises(DatasetError, match="best_model was replaced by another run while this one"):
        run_here(trained_project, "train", params={"training": {"seed": 7}})
    assert report.read_bytes() == before

"""What the state of an interrupted run holds, when it is kept, and how much room it takes."""

import errno
import io
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
import torch
from rich.filesize import decimal
from torch import Tensor, nn

from llm_ctr_pipeline.data.errors import StorageError
from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training import fit as fit_module
from llm_ctr_pipeline.training.fit import FitResult, fit
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.optimizer import freeze_all_but
from llm_ctr_pipeline.training.settings import Stage, TrainingSettings
from llm_ctr_pipeline.training.stages import KeptStates, train_stages
from llm_ctr_pipeline.training.state import (
    DamagedStateError,
    ResumePoint,
    StateMismatchError,
    state_bytes,
)
from tests.training.runs import (
    VALIDATED,
    VALIDATIONS,
    Train,
    assert_equal_runs,
    signal_at_validation,
    signal_in_step,
)

MakeModel = Callable[..., LlmCtr]
MakeSplit = Callable[..., EncodedSplit]
MakeSettings = Callable[..., TrainingSettings]


class Wide(nn.Module):
    """A model of which the weights are nearly all of the state."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(5, 40_000)
        self.output = nn.Linear(40_000, 1)

    def forward(self, ids_BF: Tensor) -> Tensor:
        log_odds_B1: Tensor = self.output(self.table(ids_BF).sum(dim=1))
        return log_odds_B1.squeeze(1)


@pytest.mark.parametrize("components", [None, ("table",), ("output",)])
def test_the_size_of_a_state_is_known_beforehand(
    make_split: MakeSplit,
    make_settings: MakeSettings,
    tmp_path: Path,
    components: tuple[str, ...] | None,
) -> None:
    model, file = Wide(), tmp_path / "state.pt"
    freeze_all_but(model, components)
    settings = make_settings(epochs=1)
    fit(model, make_split(32, 1), make_split(32, 2), settings, None, ResumePoint(file, "key"))
    assert state_bytes(model, components) == pytest.approx(file.stat().st_size, rel=0.02)


@pytest.fixture
def stages() -> dict[str, Stage]:
    first = Stage(datasets="a b", components="table", start="new", epochs=1)
    second = Stage(datasets="a", components="output", start="previous", epochs=1)
    return {"first": first, "second": second}


# Of `Wide`: two states of the table, one of the output, and one written beside the one it replaces.
TABLE, OUTPUT = 4 * 4 * 5 * 40_000, 4 * 4 * 40_001
NEEDED = 2 * TABLE + OUTPUT + TABLE
LIMITS = ((1, 10), (1, 10), (1, 10))


@pytest.mark.parametrize(
    ("free", "every", "fits"),
    [(NEEDED, 1, True), (NEEDED - 1, 1, False), (NEEDED - 1, 3, False), (0, 0, True)],
)
def test_states_that_the_disk_does_not_hold_are_refused_at_the_start(
    make_split: MakeSplit,
    make_settings: MakeSettings,
    stages: dict[str, Stage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    every: int,
    fits: bool,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    rows = make_split(32, 1), make_split(32, 2)
    training = make_settings(keep_state_every=every)
    states = KeptStates(tmp_path / "path" / "interrupted", ("a", "b", "c"), LIMITS)
    model = Wide()
    if fits:
        assert len(train_stages(model, stages, training, lambda _, __: rows, None, states)) == 3
        return
    before = model.table.weight.clone()
    with pytest.raises(StorageError) as error:
        train_stages(model, stages, training, lambda _, __: rows, None, states)
    assert torch.equal(model.table.weight, before)
    assert not states.folder.exists()
    assert f"take {decimal(NEEDED)} in {states.folder}" in str(error.value)
    assert "set training.keep_state_every to 0" in str(error.value)


def test_states_that_are_there_already_need_no_more_room(
    make_split: MakeSplit,
    make_settings: MakeSettings,
    stages: dict[str, Stage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, training = (make_split(32, 1), make_split(32, 2)), make_settings()
    states = KeptStates(tmp_path, ("a", "b", "c"), LIMITS)

    def cut_off(*_: object) -> None:
        if states.own():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stages(Wide(), stages, training, lambda _, __: rows, cut_off, states)
    (kept,) = states.own()
    # So do those that a killed process had begun: the room that they take is made.
    (begun := tmp_path / f".{kept.name}-killed").mkdir()
    room = NEEDED - kept.stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=room - begun.exists()))
    assert len(train_stages(Wide(), stages, training, lambda _, __: rows, None, states)) == 3


def test_without_a_resume_point_nothing_is_written(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(on_validation=signal_at_validation(7))
    assert list(tmp_path.iterdir()) == []


def test_the_state_is_there_while_training_and_nothing_beside_it(
    train: Train, point: ResumePoint
) -> None:
    seen = []
    train(point, on_validation=lambda _: seen.append(point.file.exists()))
    assert seen == [True] * VALIDATIONS
    assert list(point.file.parent.iterdir()) == [point.file]


@pytest.mark.parametrize(
    ("every", "kept"), [(1, VALIDATED), (2, [6, 10, 14, 20, 21]), (4, [10, 20, 21]), (0, [])]
)
def test_a_state_is_kept_after_so_many_validations_and_at_the_end(
    train: Train, point: ResumePoint, every: int, kept: list[int]
) -> None:
    seen: list[int] = []

    def look(_record: ValidationRecord | None = None) -> None:
        """Called after the validation's own state is kept."""
        if point.file.exists():
            seen.append(point.load()[0].step)

    train(point, on_validation=look, keep_state_every=every)
    look()
    assert sorted(set(seen)) == kept


@pytest.mark.parametrize(("every", "kept"), [(4, True), (0, False)])
def test_ctrl_c_keeps_a_state_unless_none_is_to_be_kept(
    make_model: MakeModel, train: Train, point: ResumePoint, every: int, kept: bool
) -> None:
    model = make_model()
    signal_in_step(model, 5, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(point, model, keep_state_every=every, keep_state_every_steps=2)
    assert point.file.exists() == kept


def test_frozen_weights_are_not_in_the_state(
    make_model: MakeModel, train: Train, point: ResumePoint
) -> None:
    components = ("gen", "projector")
    whole = train(components=components)
    model = make_model()
    signal_in_step(model, 12, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(point, model, components=components)
    state, weights, _ = point.load()
    trained = {name for name, w in model.named_parameters() if name.split(".")[0] in components}
    frozen = {name for name, _ in model.named_parameters()} - trained
    assert trained <= weights.keys() == state.best_weights.keys()
    assert frozen
    assert not frozen & weights.keys()
    assert_equal_runs(train(point, components=components), whole)


def test_the_state_file_holds_no_code(train: Train, point: ResumePoint) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(point, on_validation=signal_at_validation(7))
    content = torch.load(point.file, weights_only=True)
    assert set(content) == {"key", "state", "model", "optimizer"}
    assert content["key"] == point.key
    assert [record["step"] for record in content["state"]["history"]] == [3, 6, 7]


def test_a_state_of_another_version_is_refused(train: Train, point: ResumePoint) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(point, on_validation=signal_at_validation(7))
    content = torch.load(point.file, weights_only=True)
    content["state"]["loss_sum"] = sum(content["state"].pop("loss_sums"))
    torch.save(content, point.file)
    with pytest.raises(StateMismatchError, match="written by another version of this project"):
        train(point)


@pytest.mark.parametrize("damage", ["empty", "zeroed", "cut off", "a bit flipped", "no state"])
def test_a_damaged_state_is_told_by_its_name_and_what_helps(
    train: Train, point: ResumePoint, damage: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(point, on_validation=signal_at_validation(7))
    whole = bytearray(point.file.read_bytes())
    (weight, *_) = torch.load(point.file)["model"].values()
    at = whole.index(weight.numpy().tobytes()) + 9
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    other = io.BytesIO()
    torch.save({"key": point.key}, other)
    point.file.write_bytes(
        {
            "empty": b"",
            "zeroed": bytes(len(whole)),
            "cut off": whole[: len(whole) // 2],
            "a bit flipped": flipped,
            "no state": other.getvalue(),
        }[damage]
    )
    with pytest.raises(DamagedStateError) as error:
        train(point)
    cure = "delete it, and the same command trains again what it held"
    assert str(error.value) == f"{point.file} is damaged, or no training state: {cure}"


def test_too_little_memory_is_not_told_as_damage(
    train: Train, point: ResumePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_names: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    train(point)
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        point.load()


def test_a_state_that_cannot_be_written_leaves_the_one_before(
    train: Train, whole: FitResult, point: ResumePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def fail_at_third(content: dict[str, Any], file: BinaryIO) -> None:
        if content["state"]["step"] == 7:
            file.write(b"half a st")
            raise OSError(errno.ENOSPC, "no space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", fail_at_third)
    with pytest.raises(StorageError, match="is full: make room and run this again"):
        train(point)
    monkeypatch.undo()
    assert list(point.file.parent.iterdir()) == [point.file]
    assert point.load()[0].step == 6
    assert_equal_runs(train(point), whole)


def test_a_stop_after_the_loss_diverged_keeps_the_last_good_state(
    make_model: MakeModel, train: Train, point: ResumePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    signal_in_step(model, 5, signal.SIGINT)
    monkeypatch.setattr(fit_module, "STEPS_BETWEEN_LOSS_CHECKS", 6)  # after the signal
    monkeypatch.setattr(fit_module, "LOSSES_AN_EPOCH", 1)
    done = 0

    def poison(module: nn.Module, _inputs: tuple[Tensor]) -> None:
        nonlocal done
        done += module.training
        if done == 5 and module.training:
            with torch.no_grad():
                next(module.parameters()).fill_(torch.nan)

    model.register_forward_pre_hook(poison)
    with pytest.raises(KeyboardInterrupt):
        train(point, model)
    assert point.load()[0].step == 3
    assert_equal_runs(train(point), train(None))

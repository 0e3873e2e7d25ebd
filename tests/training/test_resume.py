"""An interrupted run that goes on is the run that was never interrupted, bit for bit."""

import errno
import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from transformers import PreTrainedModel

from llm_ctr_pipeline.data.errors import StorageError
from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training.fit import FitResult, fit
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.machine import devices
from llm_ctr_pipeline.training.optimizer import freeze_all_but
from llm_ctr_pipeline.training.settings import TrainingSettings
from llm_ctr_pipeline.training.state import ResumePoint, StateMismatchError

MakeLm = Callable[..., PreTrainedModel]
MakeModel = Callable[..., LlmCtr]
MakeSplit = Callable[..., EncodedSplit]
MakeSettings = Callable[..., TrainingSettings]
Train = Callable[..., FitResult]

# 100 rows in batches of 16 are 7 steps an epoch; with a validation every 3 steps, 9 validations.
STEPS, VALIDATIONS = 21, 9
VALIDATED = [3, 6, 7, 10, 13, 14, 17, 20, 21]


def without_timing(result: FitResult) -> list[dict[str, Any]]:
    timed = {"seconds", "rows_per_second"}
    return [
        {name: value for name, value in record.to_json().items() if name not in timed}
        for record in result.history
    ]


@pytest.fixture(scope="module")
def train(make_model: MakeModel, make_split: MakeSplit, make_settings: MakeSettings) -> Train:
    """Train a new model, always the same, from the start or from where it was interrupted."""

    def run(
        resume: ResumePoint | None = None,
        model: LlmCtr | None = None,
        on_validation: Callable[[ValidationRecord], None] | None = None,
        components: tuple[str, ...] | None = None,
        **changes: Any,
    ) -> FitResult:
        settings = make_settings(**{"validate_every_steps": 3, "weight_decay": 0.01, **changes})
        split = make_split(100, 1, noise=0.2), make_split(60, 2, noise=0.2)
        model = model or make_model()
        freeze_all_but(model, components)
        return fit(model, *split, settings, on_validation, resume)

    return run


@pytest.fixture(scope="module")
def uninterrupted(make_model: MakeModel, train: Train) -> tuple[FitResult, LlmCtr]:
    model = make_model()
    return train(model=model), model


@pytest.fixture(scope="module")
def whole(uninterrupted: tuple[FitResult, LlmCtr]) -> FitResult:
    return uninterrupted[0]


@pytest.fixture
def point(tmp_path: Path) -> ResumePoint:
    return ResumePoint(tmp_path / "new folder" / "state.pt", key="settings and data")


def signal_in_step(model: nn.Module, step: int, number: int) -> None:
    """Send this process a signal in the middle of a training step, counted from 1."""
    done = 0

    def count(module: nn.Module, _inputs: tuple[Tensor]) -> None:
        nonlocal done
        done += module.training
        if done == step and module.training:
            os.kill(os.getpid(), number)

    model.register_forward_pre_hook(count)


def signal_at_validation(step: int) -> Callable[[ValidationRecord], None]:
    def send(record: ValidationRecord) -> None:
        if record.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return send


def assert_equal_runs(resumed: FitResult, whole: FitResult) -> None:
    assert without_timing(resumed) == without_timing(whole)
    assert resumed.best.step == whole.best.step
    assert resumed.stopped_early == whole.stopped_early
    assert resumed.best_weights.keys() == whole.best_weights.keys()
    for name, weight in whole.best_weights.items():
        assert torch.equal(resumed.best_weights[name], weight), name


@pytest.mark.parametrize("step", [3, 7, 14, STEPS])
def test_a_run_interrupted_at_a_validation_goes_on(
    train: Train, whole: FitResult, point: ResumePoint, step: int
) -> None:
    assert len(whole.history) == VALIDATIONS
    with pytest.raises(KeyboardInterrupt):
        train(point, on_validation=signal_at_validation(step))
    assert point.load()[0].step == step
    assert_equal_runs(train(point), whole)


@pytest.mark.parametrize("step", [1, 5, 8, 20])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_interrupted_in_mid_epoch_goes_on(
    make_model: MakeModel,
    train: Train,
    uninterrupted: tuple[FitResult, LlmCtr],
    point: ResumePoint,
    step: int,
    number: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    whole, trained = uninterrupted
    model = make_model()
    signal_in_step(model, step, number)
    ends = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with pytest.raises(ends) as raised:
        train(point, model)
    if number == signal.SIGTERM:
        assert raised.value.code == 143
    # The step is completed first.
    assert point.load()[0].step == step
    assert f"Stopped after step {step}: the same command goes on from there" in caplog.messages
    final = make_model()
    assert_equal_runs(train(point, final), whole)
    for name, weight in trained.state_dict().items():
        assert torch.equal(final.state_dict()[name], weight), name


def test_a_run_interrupted_twice_goes_on(
    make_model: MakeModel, train: Train, whole: FitResult, point: ResumePoint
) -> None:
    for step in (4, 6):
        model = make_model()
        signal_in_step(model, step, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            train(point, model)
    assert point.load()[0].step == 10
    assert_equal_runs(train(point), whole)


def test_a_run_that_is_killed_goes_on_from_its_last_validation(
    train: Train, whole: FitResult, point: ResumePoint
) -> None:
    def fail(record: ValidationRecord) -> None:
        if record.step == 10:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        train(point, on_validation=fail)
    assert point.load()[0].step == 7
    assert_equal_runs(train(point), whole)


def test_a_run_of_a_model_with_dropout_goes_on(
    make_causal_lm: MakeLm, make_model: MakeModel, train: Train, point: ResumePoint
) -> None:
    def new_model() -> LlmCtr:
        return make_model(make_causal_lm("gpt2", resid_pdrop=0.3))

    whole = train(model=new_model())
    without_dropout = train(model=make_model(make_causal_lm("gpt2")))
    assert without_timing(whole) != without_timing(without_dropout)
    interrupted = new_model()
    signal_in_step(interrupted, 5, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(point, interrupted)
    assert_equal_runs(train(point, new_model()), whole)


def test_a_run_in_float16_goes_on_with_its_loss_scale(
    make_model: MakeModel, train: Train, point: ResumePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU, for which the setting is refused: what is kept is the same."""
    monkeypatch.setattr(devices, "resolve_precision", lambda *_: "16-mixed")
    # So large a scale overflows: it is halved, and the step skipped, until it does not.
    monkeypatch.setattr(devices, "GradScaler", partial(GradScaler, init_scale=2.0**24))
    whole = train()
    interrupted = make_model()
    signal_in_step(interrupted, 12, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(point, interrupted)
    assert 0 < point.load()[0].loss_scale["scale"] < 2.0**24
    assert_equal_runs(train(point), whole)


def test_more_epochs_may_be_asked_for_when_a_run_goes_on(train: Train, point: ResumePoint) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(point, on_validation=signal_at_validation(7), epochs=1)
    assert_equal_runs(train(point, epochs=2), train(epochs=2))


def test_ctrl_c_at_the_validation_that_ends_patience_is_not_lost(
    make_model: MakeModel, train: Train, point: ResumePoint
) -> None:
    early = {"patience": 1, "lr": 0.3, "epochs": 9}
    trained, final = make_model(), make_model()
    whole = train(model=trained, **early)
    assert whole.stopped_early
    with pytest.raises(KeyboardInterrupt):
        train(point, on_validation=signal_at_validation(whole.history[-1].step), **early)
    assert_equal_runs(train(point, final, **early), whole)
    # Going on, it trained no further.
    for name, weight in trained.state_dict().items():
        assert torch.equal(final.state_dict()[name], weight), name


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
    assert seen == [False] + [True] * (VALIDATIONS - 1)
    assert list(point.file.parent.iterdir()) == [point.file]


@pytest.mark.parametrize(
    ("every", "kept"), [(1, VALIDATED), (2, [6, 10, 14, 20, 21]), (4, [10, 20, 21]), (0, [])]
)
def test_a_state_is_kept_after_so_many_validations_and_at_the_end(
    train: Train, point: ResumePoint, every: int, kept: list[int]
) -> None:
    seen: list[int] = []

    def look(_record: ValidationRecord | None = None) -> None:
        """Called before the validation's own state is kept."""
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
        train(point, model, keep_state_every=every)
    assert point.file.exists() == kept


def test_a_state_is_gone_on_from_though_no_more_are_kept(
    train: Train, whole: FitResult, point: ResumePoint
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(point, on_validation=signal_at_validation(7))
    before = point.file.read_bytes()
    assert_equal_runs(train(point, keep_state_every=0), whole)
    assert point.file.read_bytes() == before


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


def test_a_state_of_other_frozen_weights_is_refused(
    make_model: MakeModel, train: Train, point: ResumePoint
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(point, on_validation=signal_at_validation(7), components=("projector",))
    other = make_model()
    with torch.no_grad():
        other.gen.generate.weight[0, 0] += 1e-6
    with pytest.raises(StateMismatchError, match="other frozen weights: delete it, or set"):
        train(point, other, components=("projector",))


def test_going_on_is_logged(
    train: Train, point: ResumePoint, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(point, on_validation=signal_at_validation(7))
    with caplog.at_level(logging.INFO):
        train(point)
    assert f"Going on from step 7, kept in {point.file}" in caplog.messages


def test_a_state_of_other_settings_is_refused_and_kept(train: Train, point: ResumePoint) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(point, on_validation=signal_at_validation(7))
    before = point.file.read_bytes()
    with pytest.raises(
        StateMismatchError, match="other settings or other data: set them back"
    ) as e:
        train(ResumePoint(point.file, key="other settings"))
    assert str(point.file) in str(e.value)
    assert point.file.read_bytes() == before


def test_the_state_file_holds_no_code(train: Train, point: ResumePoint) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(point, on_validation=signal_at_validation(7))
    content = torch.load(point.file, weights_only=True)
    assert set(content) == {"key", "state", "model", "optimizer"}
    assert content["key"] == point.key
    assert [record["step"] for record in content["state"]["history"]] == [3, 6, 7]


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
    make_model: MakeModel, train: Train, whole: FitResult, point: ResumePoint
) -> None:
    model = make_model()
    signal_in_step(model, 5, signal.SIGINT)
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
    assert_equal_runs(train(point), whole)

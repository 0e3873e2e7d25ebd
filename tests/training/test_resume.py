"""An interrupted run that goes on is the run that was never interrupted, bit for bit."""

import logging
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from torch.amp import GradScaler
from transformers import PreTrainedModel

from llm_ctr_pipeline.data.input.batches import EncodedSplit, TrainingRows
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.input.streamed_split import open_rows
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training.fit import FitResult, fit
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.machine import devices
from llm_ctr_pipeline.training.settings import TrainingSettings
from llm_ctr_pipeline.training.state import ResumePoint, StateMismatchError
from tests.data.logs import counted
from tests.decoders import DEEPFM_TERMS, EVERYTHING, OF_FIELDS
from tests.training.runs import (
    STEPS,
    VALIDATIONS,
    Train,
    assert_equal_runs,
    fail_in_step,
    signal_at_validation,
    signal_in_step,
    without_timing,
)

MakeLm = Callable[..., PreTrainedModel]
MakeModel = Callable[..., LlmCtr]
MakeSplit = Callable[..., EncodedSplit]
MakeSettings = Callable[..., TrainingSettings]


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
    # It was kept before it was told.
    assert point.load()[0].step == 10
    assert_equal_runs(train(point), whole)


def with_dropout(model: LlmCtr) -> LlmCtr:
    model.projector = nn.Sequential(model.projector, nn.Dropout(0.3))
    return model


def test_a_run_of_a_model_with_dropout_goes_on(
    make_causal_lm: MakeLm, make_model: MakeModel, train: Train, point: ResumePoint
) -> None:
    def new_model() -> LlmCtr:
        return with_dropout(make_model(make_causal_lm("gpt2")))

    whole = train(model=new_model())
    without_dropout = train(model=make_model(make_causal_lm("gpt2")))
    assert without_timing(whole) != without_timing(without_dropout)
    interrupted = new_model()
    signal_in_step(interrupted, 5, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(point, interrupted)
    assert_equal_runs(train(point, new_model()), whole)


@pytest.mark.parametrize(("killed_in", "kept"), [(5, 4), (16, 15)])
def test_a_run_with_all_dropouts_in_passes_goes_on_from_what_was_kept(
    make_model: MakeModel, train: Train, point: ResumePoint, killed_in: int, kept: int
) -> None:
    def run(point: ResumePoint | None, killed_in: int = 0) -> FitResult:
        model = make_model(**EVERYTHING)
        # A pass is a forward call, and a batch of 16 takes two; the last of an epoch one.
        fail_in_step(model, killed_in)
        every = {"keep_state_every": 9, "keep_state_every_steps": kept}
        return train(point, model, **every, id_dropout=0.1, micro_batch_size=8)

    whole = run(None)
    assert without_timing(whole) != without_timing(run_without_dropout(make_model, train))
    passes = 2 * killed_in - (killed_in > 7) - (killed_in > 14)
    with pytest.raises(RuntimeError, match="killed"):
        run(point, passes)
    assert point.load()[0].step == kept
    assert_equal_runs(run(point), whole)


def run_without_dropout(make_model: MakeModel, train: Train) -> FitResult:
    terms = DEEPFM_TERMS.model_copy(update={"dropout": 0.0})
    return train(model=make_model(**OF_FIELDS, terms=terms), micro_batch_size=8)


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


def test_a_state_is_gone_on_from_though_no_more_are_kept(
    train: Train, whole: FitResult, point: ResumePoint
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(point, on_validation=signal_at_validation(7))
    before = point.file.read_bytes()
    assert_equal_runs(train(point, keep_state_every=0), whole)
    assert point.file.read_bytes() == before


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


@pytest.fixture
def rows(make_split: MakeSplit, tmp_path: Path) -> dict[str, TrainingRows]:
    """The same rows to train on, in memory and streamed."""
    in_memory = make_split(100, 1, noise=0.2)
    columns = dict(zip("abc", in_memory.ids_NF.T.numpy(), strict=True))
    labels = in_memory.labels_N.numpy()
    table = pa.table({"row": range(100), "label": labels.astype("int8"), **columns})
    pq.write_table(table, tmp_path / "rows")
    streamed = open_rows(EncodedFile(tmp_path / "rows"), "abc", "stream", 50, counted(table, "abc"))
    return {"memory": in_memory, "stream": streamed}


@pytest.mark.parametrize("rows_in", ["memory", "stream"])
@pytest.mark.parametrize(("killed_in", "kept"), [(5, 4), (7, 6), (9, 8), (16, 15)])
def test_a_run_killed_in_mid_epoch_goes_on_from_the_last_step_that_was_kept(
    make_causal_lm: MakeLm,
    make_model: MakeModel,
    make_settings: MakeSettings,
    rows: dict[str, TrainingRows],
    make_split: MakeSplit,
    point: ResumePoint,
    rows_in: str,
    killed_in: int,
    kept: int,
) -> None:
    """Dropout, the sums since the last validation, and the place in the epoch go on."""
    every = 15 if kept == 15 else 2
    settings = make_settings(epochs=3, keep_state_every=9, keep_state_every_steps=every)

    def train(point: ResumePoint | None, killed_in: int = 0) -> FitResult:
        model = with_dropout(make_model(make_causal_lm("gpt2")))
        fail_in_step(model, killed_in)
        return fit(model, rows[rows_in], make_split(60, 2, noise=0.2), settings, None, point)

    with pytest.raises(RuntimeError, match="killed"):
        train(point, killed_in)
    assert point.load()[0].step == kept
    assert_equal_runs(train(point), train(None))


def test_a_state_is_kept_after_so_many_minutes(
    train: Train, whole: FitResult, point: ResumePoint, make_model: MakeModel
) -> None:
    model = make_model()
    fail_in_step(model, 5)
    with pytest.raises(RuntimeError, match="killed"):
        train(point, model, keep_state_every=9, keep_state_every_minutes=1e-9)
    assert point.load()[0].step == 4
    model = make_model()
    fail_in_step(model, 5)
    with pytest.raises(RuntimeError, match="killed"):
        train(point, model, keep_state_every=9, keep_state_every_minutes=60)
    assert point.load()[0].step == 4
    assert_equal_runs(train(point), whole)


@pytest.mark.parametrize("first", ["memory", "stream"])
def test_rows_in_another_order_are_refused(
    make_model: MakeModel,
    make_split: MakeSplit,
    make_settings: MakeSettings,
    rows: dict[str, TrainingRows],
    point: ResumePoint,
    first: str,
) -> None:
    """`training.rows_in: auto` may come to another place when the run goes on."""
    valid = make_split(60, 2, noise=0.2)
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), rows[first], valid, make_settings(), signal_at_validation(7), point)
    (other,) = rows.keys() - {first}
    with pytest.raises(
        StateMismatchError, match=f"set it to {first} to go on, or set training.resume"
    ):
        fit(make_model(), rows[other], valid, make_settings(), None, point)
    assert len(fit(make_model(), rows[first], valid, make_settings(), None, point).history) == 3

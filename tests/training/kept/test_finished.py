"""A finished training: the same begins anew, more epochs or patience go on, to the same end."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.kept.finished import FINISHED, mark_finished
from llm_ctr_pipeline.training.settings import Stage, TrainingSettings
from llm_ctr_pipeline.training.stages import KeptStates, StageResult, StageRun, train_stages
from llm_ctr_pipeline.training.state import StateMismatchError
from tests.training.runs import assert_equal_runs

# With 64 rows in batches of 16, an epoch is 4 steps.
FIRST = Stage(datasets="a", components="gen projector", start="new", lr=0.002, batch_size=16)
SECOND = Stage(datasets="b", components="projector llm", start="previous", batch_size=16)

Limits = tuple[int, int]
Train = Callable[..., tuple[list[StageResult], list[str]]]


@pytest.fixture
def train(
    make_model: Callable[..., LlmCtr],
    make_split: Callable[..., EncodedSplit],
    make_settings: Callable[..., TrainingSettings],
) -> Train:
    """Train one stage or two with limits; give what came out, and what was validated in doing so.

    A validation is named by dataset and step: `a4`.
    """
    rows = {
        name: (make_split(64, at, 0.3), make_split(64, at + 9, 0.3)) for at, name in enumerate("ab")
    }

    def run(
        folder: Path | None, *limits: Limits, cut: str = "", keys: str = "12", resume: bool = True
    ) -> tuple[list[StageResult], list[str]]:
        stages = {
            name: stage.model_copy(update={"epochs": epochs, "patience": patience})
            for name, stage, (epochs, patience) in zip("xy", (FIRST, SECOND), limits, strict=False)
        }
        states = None
        if folder is not None:
            states = KeptStates(folder, tuple(64 * key for key in keys[: len(limits)]), limits)
        seen: list[str] = []

        def note(run: StageRun, record: ValidationRecord) -> None:
            seen.append(f"{run.dataset}{record.step}")
            if seen[-1] == cut:
                raise KeyboardInterrupt

        training = make_settings(resume=resume)
        return train_stages(
            make_model(), stages, training, lambda name, _: rows[name], note, states
        ), seen

    return run


def assert_equal_paths(found: list[StageResult], expected: list[StageResult]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert_equal_runs(one.fit, other.fit)


def test_what_was_not_saved_is_there_without_training(train: Train, tmp_path: Path) -> None:
    first, _ = train(tmp_path, (2, 9), (1, 9))
    again, seen = train(tmp_path, (2, 9), (1, 9))
    assert seen == []
    assert_equal_paths(again, first)


def test_what_was_saved_is_trained_anew(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, all_of_it = train(tmp_path, (2, 9), (1, 9))
    mark_finished(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, (2, 9), (1, 9), cut="a4")
    assert any(message.startswith("Training anew: ") for message in caplog.messages)
    again, seen = train(tmp_path, (2, 9), (1, 9))
    assert seen == all_of_it[1:]
    assert_equal_paths(again, first)


@pytest.mark.parametrize("is_saved", [True, False])
@pytest.mark.parametrize(
    ("before", "after", "trained"),
    [
        ([(2, 9)], [(4, 9)], ["a12", "a16"]),
        ([(9, 1)], [(9, 2)], ["a16"]),
        ([(9, 1)], [(10, 1)], []),
        ([(1, 9), (1, 9)], [(1, 9), (3, 9)], ["b8", "b12"]),
        ([(1, 9), (1, 9)], [(2, 9), (1, 9)], ["a8", "b4"]),
        # The first stage's best validation stays, and with it what the second one starts from.
        ([(4, 9), (1, 9)], [(5, 9), (2, 9)], ["a20", "b8"]),
    ],
)
def test_more_is_as_if_it_had_been_asked_for_from_the_start(
    train: Train,
    tmp_path: Path,
    before: list[Limits],
    after: list[Limits],
    trained: list[str],
    is_saved: bool,
) -> None:
    train(tmp_path, *before)
    if is_saved:
        mark_finished(tmp_path)
    found, seen = train(tmp_path, *after)
    assert seen == trained
    assert_equal_paths(found, train(None, *after)[0])


def test_more_that_is_interrupted_goes_on(train: Train, tmp_path: Path) -> None:
    train(tmp_path, (1, 9))
    mark_finished(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, (3, 9), cut="a8")
    found, seen = train(tmp_path, (3, 9))
    assert seen == ["a12"]
    assert_equal_paths(found, train(None, (3, 9))[0])


@pytest.mark.parametrize(
    ("less", "cure"),
    [
        (
            (1, 9),
            "is in epoch 2, and epochs is now 1: set it to 2 or more to go on, or",
        ),
        (
            (9, 1),
            "after 1 validations in vain, and patience is now 1: set it to 2 or more",
        ),
    ],
)
def test_less_than_was_done_is_refused_while_it_is_not_saved_and_then_begins_anew(
    train: Train, tmp_path: Path, less: Limits, cure: str
) -> None:
    limits = (2, 9) if less[1] == 9 else (9, 2)
    train(tmp_path, limits)
    with pytest.raises(StateMismatchError, match=cure):
        train(tmp_path, less)
    mark_finished(tmp_path)
    found, _ = train(tmp_path, less)
    assert_equal_paths(found, train(None, less)[0])


def test_patience_may_be_lowered_to_what_was_waited_for(train: Train, tmp_path: Path) -> None:
    whole, _ = train(tmp_path, (9, 1))
    assert whole[0].fit.stopped_early
    found, seen = train(tmp_path, (len(whole[0].fit.history), 1))
    assert seen == []
    assert_equal_paths(found, whole)


def test_the_next_finished_training_takes_its_place(train: Train, tmp_path: Path) -> None:
    foreign = tmp_path / "mlflow_run.json"
    foreign.write_text("{}")
    train(tmp_path, (1, 9), (1, 9))
    mark_finished(tmp_path)
    first = {*tmp_path.glob("*.pt")}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, (2, 9), (1, 9), keys="34", cut="a4")
    assert first < {*tmp_path.iterdir()}  # until the other is saved
    train(tmp_path, (2, 9), (1, 9), keys="34")
    mark_finished(tmp_path)
    assert not first & {*tmp_path.iterdir()}
    assert len([*tmp_path.glob("*.pt")]) == 2
    # Another second stage goes on from the first.
    _, seen = train(tmp_path, (2, 9), (1, 9), keys="35")
    assert seen == ["b4"]
    mark_finished(tmp_path)
    assert len([*tmp_path.glob("*.pt")]) == 2
    _, seen = train(tmp_path, (2, 9), (1, 9), keys="35", resume=False)
    assert seen == ["a4", "a8", "b4"]
    assert foreign.exists()


def test_a_damaged_list_costs_no_state(train: Train, tmp_path: Path) -> None:
    train(tmp_path, (1, 9))
    mark_finished(tmp_path)
    (tmp_path / FINISHED).write_bytes(bytes(50))
    assert train(tmp_path, (1, 9))[1] == []

"""Paths of several stages: what trains, what is frozen, what goes on from what."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training import stages as stages_module
from llm_ctr_pipeline.training.fit import FitResult
from llm_ctr_pipeline.training.fit import fit as real_fit
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.kept import finished
from llm_ctr_pipeline.training.optimizer import UnknownComponentError, freeze_all_but
from llm_ctr_pipeline.training.settings import Stage, TrainingSettings
from llm_ctr_pipeline.training.stages import (
    KeptStates,
    OpenDataset,
    StageResult,
    StageRun,
    train_stages,
)

MakeModel = Callable[..., LlmCtr]
MakeSplit = Callable[..., EncodedSplit]
MakeSettings = Callable[..., TrainingSettings]
COMPONENTS = ("embedding", "gen", "projector", "llm")
KEYS = ("a" * 64, "b" * 64, "c" * 64)
LIMITS = ((2, 10), (2, 10), (2, 10))


@pytest.fixture
def open_dataset(make_split: MakeSplit) -> OpenDataset:
    rows = {
        name: (make_split(64, seed), make_split(64, seed + 9)) for seed, name in enumerate("abc")
    }
    return lambda dataset, _where: rows[dataset]


@pytest.fixture
def training(make_settings: MakeSettings) -> TrainingSettings:
    return make_settings(epochs=2)


TWO_STAGES = {
    "first": Stage(datasets="a b", components="projector", start="new", lr=0.01),
    "second": Stage(datasets="c", components="projector llm", start="previous", lr=0.001),
}


def last_of(results: list[StageResult], stage: str) -> StageResult:
    """A stage's result on the last of its datasets, the one that holds weights."""
    (result,) = (one for one in results if one.run.stage == stage and one.fit.best_weights)
    return result


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Components of which some bit changed."""
    return {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("trained", [("projector",), ("gen", "llm"), ("embedding",), COMPONENTS])
def test_frozen_means_bit_by_bit(
    make_model: MakeModel,
    open_dataset: OpenDataset,
    make_settings: MakeSettings,
    trained: tuple[str, ...],
) -> None:
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    stage = Stage(datasets=("a",), components=trained, start="new")
    training = make_settings(weight_decay=0.1)
    (result,) = train_stages(model, {"one": stage}, training, open_dataset)
    assert moved(before, model.state_dict()) == set(trained)
    expected = sum(
        w.numel() for name, w in model.named_parameters() if name.split(".")[0] in trained
    )
    assert result.trained_parameters == expected
    assert result.components == trained


def test_a_frozen_component_has_no_gradients_and_no_optimiser_state(
    make_model: MakeModel,
    make_split: MakeSplit,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[torch.optim.Optimizer] = []
    seen: list[set[str]] = []
    model = make_model()

    class Noted(torch.optim.AdamW):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

        def step(self, closure: Any = None) -> Any:
            seen.append({n for n, weight in model.named_parameters() if weight.grad is not None})
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Noted)
    freeze_all_but(model, ("projector",))
    real_fit(model, make_split(32, 1), make_split(32, 2), make_settings(epochs=1))
    trained = {name for name, _ in model.named_parameters() if name.startswith("projector.")}
    assert seen
    assert all(names == trained for names in seen)
    (optimizer,) = made
    held = {id(weight) for weight in optimizer.state}
    assert held == {id(weight) for name, weight in model.named_parameters() if name in trained}


def test_each_stage_goes_on_from_the_best_weights_of_the_one_before(
    make_model: MakeModel,
    open_dataset: OpenDataset,
    training: TrainingSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    met: list[tuple[dict[str, Tensor], FitResult]] = []

    def noted(model: LlmCtr, *args: Any) -> FitResult:
        before = copy.deepcopy(model.state_dict())
        result = real_fit(model, *args)
        # As if the best validation had not been the last.
        best = {name: weight + 0.001 for name, weight in result.best_weights.items()}
        met.append((before, replace(result, best_weights=best)))
        return met[-1][1]

    monkeypatch.setattr(stages_module, "fit", noted)
    model = make_model()
    start = copy.deepcopy(model.state_dict())
    results = train_stages(model, TWO_STAGES, training, open_dataset)
    assert not moved(start, met[0][0])
    for (_, result), (following, _) in itertools.pairwise(met):
        assert not moved(result.best_weights, following)
    assert not moved(met[-1][1].best_weights, model.state_dict())
    assert [(r.run.stage, r.run.dataset) for r in results] == [
        ("first", "a"),
        ("first", "b"),
        ("second", "c"),
    ]
    assert results[0].fit.best_weights == {}
    assert not moved(last_of(results, "first").fit.best_weights, met[1][1].best_weights)
    assert not moved(last_of(results, "second").fit.best_weights, met[2][1].best_weights)


def test_validations_say_which_stage_they_are_of(
    make_model: MakeModel, open_dataset: OpenDataset, training: TrainingSettings
) -> None:
    seen: list[StageRun] = []

    def note(run: StageRun, record: ValidationRecord) -> None:
        seen.append(run)

    train_stages(make_model(), TWO_STAGES, training, open_dataset, note)
    runs = [("first", "a", 0, False), ("first", "b", 1, False), ("second", "c", 2, True)]
    assert seen == [StageRun(*run) for run in runs for _ in range(2)]


@pytest.mark.parametrize("interrupted_at", [1, 2, 3, 5])
def test_an_interrupted_path_goes_on_in_the_stage_where_it_was(
    make_model: MakeModel,
    open_dataset: OpenDataset,
    training: TrainingSettings,
    tmp_path: Path,
    interrupted_at: int,
) -> None:
    whole_model = make_model()
    whole = train_stages(whole_model, TWO_STAGES, training, open_dataset)
    states = KeptStates(tmp_path, KEYS, LIMITS)
    other = tmp_path / "start-other_first_a.pt"
    other.write_bytes(b"of other settings")
    validations = 0

    def interrupt(run: StageRun, record: ValidationRecord) -> None:
        nonlocal validations
        validations += 1
        if validations == interrupted_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stages(make_model(), TWO_STAGES, training, open_dataset, interrupt, states)
    model = make_model()
    seen: list[str] = []

    def note(run: StageRun, _record: ValidationRecord) -> None:
        seen.append(run.dataset)

    results = train_stages(model, TWO_STAGES, training, open_dataset, note, states)
    assert not moved(whole_model.state_dict(), model.state_dict())
    for found, expected in zip(results, whole, strict=True):
        assert [r.valid_auc for r in found.fit.history] == [
            r.valid_auc for r in expected.fit.history
        ]
    # Those that were kept before are not made again.
    assert len(seen) == 6 - interrupted_at
    assert states.others() == [other]
    # What it gave is not saved yet: the states go on being there.
    assert len(states.own()) == 3
    seen.clear()
    train_stages(
        make_model(),
        TWO_STAGES,
        training,
        open_dataset,
        lambda run, _: seen.append("again"),
        states,
    )
    assert seen == []


def test_paths_with_the_same_first_stage_share_its_states(
    make_model: MakeModel, open_dataset: OpenDataset, training: TrainingSettings, tmp_path: Path
) -> None:
    slower = TWO_STAGES | {"second": TWO_STAGES["second"].model_copy(update={"lr": 0.0001})}
    states, others = (KeptStates(tmp_path, (*KEYS[:2], last * 64), LIMITS) for last in "cd")
    seen: list[tuple[str, int]] = []

    def note(run: StageRun, record: ValidationRecord) -> None:
        seen.append((run.dataset, record.step))

    def interrupt(run: StageRun, record: ValidationRecord) -> None:
        note(run, record)
        if run.last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stages(make_model(), TWO_STAGES, training, open_dataset, interrupt, states)
    kept = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert len(kept) == 3
    seen.clear()
    other = train_stages(make_model(), slower, training, open_dataset, note, others)
    assert seen == [("c", 4), ("c", 8)]
    finished.mark_finished(tmp_path)
    # The first stage's states are still gone on from.
    assert {file: file.read_bytes() for file in kept} == kept
    assert others.others() == [states.point(StageRun("second", "c", 2, True)).file]
    seen.clear()
    resumed = train_stages(make_model(), TWO_STAGES, training, open_dataset, note, states)
    assert seen == [("c", 8)]
    finished.mark_finished(tmp_path)
    assert {*tmp_path.glob("*.pt")} == kept.keys()
    for results, stages in ((other, slower), (resumed, TWO_STAGES)):
        whole = train_stages(make_model(), stages, training, open_dataset)
        for name in ("first", "second"):
            found, expected = last_of(results, name).fit, last_of(whole, name).fit
            assert not moved(found.best_weights, expected.best_weights)


def test_starting_over_deletes_shared_states_too(tmp_path: Path) -> None:
    states, others = (KeptStates(tmp_path, (*KEYS[:2], last * 64), LIMITS) for last in "cd")
    runs = [StageRun("first", "a", 0, False), StageRun("second", "b", 2, True)]
    for kept in (states, others):
        for run in runs:
            kept.point(run).file.touch()
    assert len(states.own()) == 2
    states.begin(resume=False)
    assert [*tmp_path.iterdir()] == others.own() == [others.point(runs[1]).file]


def test_a_component_that_is_no_part_of_the_model_is_refused(
    make_model: MakeModel, open_dataset: OpenDataset, training: TrainingSettings
) -> None:
    good = Stage(datasets="a", components="projector", start="new")
    wrong = Stage(datasets="b", components="projektor", start="previous")
    stages = {"one": good, "two": wrong}
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        UnknownComponentError,
        match=r"trains projektor; the components of LlmCtr are embedding, gen, projector, llm",
    ):
        train_stages(model, stages, training, open_dataset)
    assert not moved(before, model.state_dict())  # not found out after the first stage's hours


def test_a_stage_may_meet_a_dataset_twice(
    make_model: MakeModel, open_dataset: OpenDataset, training: TrainingSettings
) -> None:
    stage = Stage(datasets="a a", components="projector", start="new", epochs=1)
    results = train_stages(make_model(), {"one": stage}, training, open_dataset)
    assert [bool(result.fit.best_weights) for result in results] == [False, True]


def test_what_begins_is_told_whether_it_goes_on(
    make_model: MakeModel, open_dataset: OpenDataset, make_settings: MakeSettings, tmp_path: Path
) -> None:
    stages = {"one": Stage(datasets="a", components="projector", start="new")}
    states, told = KeptStates(tmp_path, KEYS[:1], LIMITS[:1]), list[tuple[str, bool]]()

    def train(stop: int, **changes: int) -> None:
        def interrupt(_: StageRun, record: ValidationRecord) -> None:
            if record.step == stop:
                raise KeyboardInterrupt

        settings = make_settings(epochs=2, **changes)
        args = (make_model(), stages, settings, open_dataset, interrupt, states)
        train_stages(*args, lambda *known: told.append(known))

    with pytest.raises(KeyboardInterrupt):
        train(stop=8)
    train(stop=0)
    assert told == [(KEYS[0], False), (KEYS[0], True)]
    train(stop=0, keep_state_every=0)  # nothing is kept that could be gone on with
    assert len(told) == 2

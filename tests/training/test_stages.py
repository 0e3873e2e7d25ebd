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

from llm_ctr_pipeline.data.batches import EncodedSplit
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training import stages as stages_module
from llm_ctr_pipeline.training.fit import FitResult
from llm_ctr_pipeline.training.fit import fit as real_fit
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.optimizer import UnknownComponentError
from llm_ctr_pipeline.training.settings import FitSettings
from llm_ctr_pipeline.training.stages import (
    KeptStates,
    Stage,
    StageRun,
    last_of,
    train_stages,
)

MakeModel = Callable[..., LlmCtr]
MakeSplit = Callable[..., EncodedSplit]
MakeSettings = Callable[..., FitSettings]
COMPONENTS = ("embedding", "gen", "projector", "llm")


@pytest.fixture
def datasets(make_split: MakeSplit) -> dict[str, Any]:
    rows = {
        name: (make_split(64, seed), make_split(64, seed + 9)) for seed, name in enumerate("abc")
    }
    return {name: lambda of=split: of for name, split in rows.items()}


@pytest.fixture
def two_stages(make_settings: MakeSettings) -> list[Stage]:
    first = make_settings(components=("projector",), epochs=2, lr=0.01)
    second = make_settings(components=("projector", "llm"), epochs=2, lr=0.001)
    return [Stage("first", ("a", "b"), first), Stage("second", ("c",), second)]


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Components of which some bit changed."""
    return {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("trained", [("projector",), ("gen", "llm"), ("embedding",), COMPONENTS])
def test_frozen_means_bit_by_bit(
    make_model: MakeModel, datasets: Any, make_settings: MakeSettings, trained: tuple[str, ...]
) -> None:
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    settings = make_settings(components=trained, weight_decay=0.1)
    (result,) = train_stages(model, [Stage("one", ("a",), settings)], datasets)
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
    real_fit(
        model,
        make_split(32, 1),
        make_split(32, 2),
        make_settings(components=("projector",), epochs=1),
    )
    trained = {name for name, _ in model.named_parameters() if name.startswith("projector.")}
    assert seen
    assert all(names == trained for names in seen)
    (optimizer,) = made
    held = {id(weight) for weight in optimizer.state}
    assert held == {id(weight) for name, weight in model.named_parameters() if name in trained}


def test_each_stage_goes_on_from_the_best_weights_of_the_one_before(
    make_model: MakeModel, datasets: Any, two_stages: list[Stage], monkeypatch: pytest.MonkeyPatch
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
    results = train_stages(model, two_stages, datasets)
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
    make_model: MakeModel, datasets: Any, two_stages: list[Stage]
) -> None:
    seen: list[StageRun] = []

    def note(run: StageRun, record: ValidationRecord) -> None:
        seen.append(run)

    train_stages(make_model(), two_stages, datasets, note)
    runs = [("first", "a", 0, False), ("first", "b", 1, False), ("second", "c", 2, True)]
    assert seen == [StageRun(*run) for run in runs for _ in range(2)]


@pytest.mark.parametrize("interrupted_at", [1, 2, 3, 5])
def test_an_interrupted_path_goes_on_in_the_stage_where_it_was(
    make_model: MakeModel,
    datasets: Any,
    two_stages: list[Stage],
    tmp_path: Path,
    interrupted_at: int,
) -> None:
    whole_model = make_model()
    whole = train_stages(whole_model, two_stages, datasets)
    states = KeptStates(tmp_path, "a" * 64)
    other = tmp_path / "other_0_first_a.pt"
    other.write_bytes(b"of other settings")
    validations = 0

    def interrupt(run: StageRun, record: ValidationRecord) -> None:
        nonlocal validations
        validations += 1
        if validations == interrupted_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stages(make_model(), two_stages, datasets, interrupt, states)
    model = make_model()
    seen: list[str] = []
    results = train_stages(
        model, two_stages, datasets, lambda run, _: seen.append(run.dataset), states
    )
    assert not moved(whole_model.state_dict(), model.state_dict())
    for found, expected in zip(results, whole, strict=True):
        assert [r.valid_auc for r in found.fit.history] == [
            r.valid_auc for r in expected.fit.history
        ]
    # The validation that was cut off is made again, those before it are not.
    assert len(seen) == 6 - (interrupted_at - 1)
    assert list(tmp_path.iterdir()) == [other]
    assert states.others() == [other]


def test_a_component_that_is_no_part_of_the_model_is_refused(
    make_model: MakeModel, datasets: Any, make_settings: MakeSettings
) -> None:
    good, wrong = (make_settings(components=(name,)) for name in ("projector", "projektor"))
    stages = [Stage("one", ("a",), good), Stage("two", ("b",), wrong)]
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        UnknownComponentError,
        match=r"trains projektor; the components of LlmCtr are embedding, gen, projector, llm",
    ):
        train_stages(model, stages, datasets)
    assert not moved(before, model.state_dict())  # not found out after the first stage's hours

"""The recipe: schedules, penalties and what keeps rows from being learned by heart."""

import itertools
import logging
import math
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.baselines.deepfm import DeepFm
from llm_ctr_pipeline.models.layers import BatchNorm
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.settings import DeepFmSettings
from llm_ctr_pipeline.training.fit import FitResult, fit
from llm_ctr_pipeline.training.optimizer import (
    build_optimizer,
    learning_rate,
    redraw_embeddings,
    trained_tables,
)
from llm_ctr_pipeline.training.settings import Execution, Regularisation, TrainingSettings
from llm_ctr_pipeline.training.state import ResumePoint
from llm_ctr_pipeline.training.step import TrainingStep
from tests.conftest import FIELD_SIZES
from tests.training.runs import Train, assert_equal_runs, fail_in_step, signal_in_step

MakeModel = Callable[..., LlmCtr]
MakeSplit = Callable[..., EncodedSplit]
MakeSettings = Callable[..., TrainingSettings]

ROWS = 12
EVERYTHING: dict[str, Any] = {
    **{"embedding_l2": 0.01, "gradient_clip_norm": 0.5, "label_smoothing": 0.1, "id_dropout": 0.2},
    **{"redraw_embeddings": True, "early_stopping_metric": "logloss", "weight_decay": 0.1},
}


def deepfm(**changes: Any) -> DeepFm:
    network = {"gen": False, "hidden_sizes": (8,), "dropout": 0.0, "batch_norm": False} | changes
    encoder = {"embedding_dim": 4, "embedding_init_std": 0.5, "gen_gamma": 6.0}
    return DeepFm.create(DeepFmSettings(**encoder, **network), FIELD_SIZES, seed=0)


# --- schedules ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0, 1.0]),
        ("plateau", [0.25, 0.25, 0.25, 0.25, 0.25]),  # two drops
        ("warmup_linear", [0.25, 0.75, 1.0, 0.5, 0.125]),
        ("warmup_cosine", [0.25, 0.75, 1.0, 0.5, 0.5 * (1 + math.cos(math.pi * 7 / 8))]),
    ],
)
def test_each_schedule_is_what_its_name_says(
    make_settings: MakeSettings, schedule: str, expected: list[float]
) -> None:
    settings = make_settings(lr_schedule=schedule, lr_factor=0.5, lr_warmup_steps=4)
    steps = [0, 2, 4, 8, 11]
    rates = [learning_rate(0.2, settings, step, 12, drops=2) for step in steps]
    assert rates == pytest.approx([0.2 * share for share in expected])


def test_no_schedule_goes_below_the_least_rate_nor_above_the_one_asked_for(
    make_settings: MakeSettings,
) -> None:
    plateau = make_settings(lr_schedule="plateau", lr_min=0.01)
    assert [learning_rate(0.5, plateau, 9, 9, drops) for drops in range(4)] == pytest.approx(
        [0.5, 0.05, 0.01, 0.01]
    )
    assert learning_rate(0.001, plateau, 0, 9, drops=3) == 0.001
    linear = make_settings(lr_schedule="warmup_linear", lr_min=0.01)
    assert learning_rate(0.5, linear, 9, 9, drops=0) == 0.01


PLATEAU = {"lr_schedule": "plateau", "lr_factor": 0.5, "lr": 3e-2, "encoder_lr": 3e-2}


def dropped_at(result: FitResult) -> int:
    """The step of the first validation without a gain, behind which another one comes."""
    return next(record.step for record in result.history[1:-1] if not record.improved)


def test_the_rate_drops_at_each_validation_without_a_gain(train: Train) -> None:
    history = train(**PLATEAU).history
    in_vain, expected = 0, []
    for record in history:
        expected.append(3e-2 * 0.5**in_vain)
        in_vain += not record.improved
    assert 1 < in_vain < len(history)
    assert [record.lr for record in history] == pytest.approx(expected)


@pytest.mark.parametrize("recipe", [{}, EVERYTHING], ids=["plateau", "everything"])
@pytest.mark.parametrize("after_drop", [-1, 0, 1])
def test_a_run_killed_around_a_drop_goes_on_exactly(
    make_model: MakeModel,
    train: Train,
    point: ResumePoint,
    recipe: dict[str, Any],
    after_drop: int,
) -> None:
    settings = {**PLATEAU, **recipe, "keep_state_every_steps": 1}
    whole = train(**settings)
    step = dropped_at(whole) + after_drop
    model = make_model()
    fail_in_step(model, step + 1)
    with pytest.raises(RuntimeError, match="killed"):
        train(point, model, **settings)
    assert point.load()[0].step == step
    assert_equal_runs(train(point, **settings), whole)


@pytest.mark.parametrize("schedule", ["warmup_cosine", "warmup_linear"])
def test_a_run_interrupted_in_a_schedule_goes_on_exactly(
    make_model: MakeModel, train: Train, point: ResumePoint, schedule: str
) -> None:
    settings = {"lr_schedule": schedule, "lr_warmup_steps": 5, **EVERYTHING}
    whole = train(**settings)
    for step in (3, 4):  # before the warm-up's end, and the first of the second epoch
        model = make_model()
        signal_in_step(model, step, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            train(point, model, **settings)
    assert point.load()[0].step == 7
    assert_equal_runs(train(point, **settings), whole)


# --- one step -----------------------------------------------------------------------------------


def gradients_of_a_step(
    model: nn.Module,
    batch: EncodedSplit,
    execution: Execution,
    **regularisation: Any,
) -> dict[str, Tensor]:
    """The gradients that the optimiser is asked to take a step with."""
    optimizer, noted = torch.optim.SGD(model.parameters(), lr=0.1), {}
    settings = Regularisation(**regularisation)
    step = TrainingStep(model, optimizer, len(batch), execution, batch, settings)
    named = list(model.named_parameters())

    def note(*_args: Any) -> None:
        noted.update({name: weight.grad.clone() for name, weight in named})

    optimizer.register_step_pre_hook(note)
    step(batch.ids_NF, batch.labels_N)
    return noted


@pytest.mark.parametrize("rows", [None, 5])
def test_the_penalty_is_that_of_the_loss_over_all_rows_of_the_tables(
    make_split: MakeSplit, make_execution: Callable[..., Execution], rows: int | None
) -> None:
    model, batch = deepfm(), make_split(ROWS, 1)
    batch.ids_NF[:, 2] = 1  # also rows that the batch does not meet are penalised
    nn.init.normal_(model.linear.table.weight)
    loss = F.binary_cross_entropy_with_logits(model(batch.ids_NF), batch.labels_N)
    for table in (model.embedding.table.weight, model.linear.table.weight):
        loss = loss + 0.5 * 0.3 * table.square().sum()
    expected = torch.autograd.grad(loss, list(model.parameters()))
    names = [name for name, _ in model.named_parameters()]
    execution = make_execution(micro_batch_size=rows)
    found = gradients_of_a_step(model, batch, execution, embedding_l2=0.3)
    for name, gradient in zip(names, expected, strict=True):
        torch.testing.assert_close(found[name], gradient)


def test_frozen_tables_are_not_penalised(
    make_split: MakeSplit, make_settings: MakeSettings
) -> None:
    model = deepfm()
    model.embedding.requires_grad_(False)
    before = model.embedding.table.weight.clone()
    fit(model, make_split(32, 1), make_split(32, 2), make_settings(embedding_l2=0.5, epochs=1))
    assert torch.equal(model.embedding.table.weight, before)


def test_the_gradient_is_scaled_down_to_the_norm_penalty_included(
    make_split: MakeSplit, make_execution: Callable[..., Execution]
) -> None:
    batch, execution = make_split(ROWS, 1), make_execution()
    whole = gradients_of_a_step(deepfm(), batch, execution, embedding_l2=0.3)
    norm = math.sqrt(sum(gradient.square().sum().item() for gradient in whole.values()))
    limits = {"embedding_l2": 0.3, "gradient_clip_norm": norm / 2}
    found = gradients_of_a_step(deepfm(), batch, execution, **limits)
    for name, gradient in whole.items():
        torch.testing.assert_close(found[name], gradient / 2, rtol=1e-4, atol=1e-7)
    limits["gradient_clip_norm"] = 2 * norm
    found = gradients_of_a_step(deepfm(), batch, execution, **limits)
    assert all(torch.equal(found[name], gradient) for name, gradient in whole.items())


def test_smoothed_labels_are_what_the_loss_is_of(
    make_split: MakeSplit, make_execution: Callable[..., Execution]
) -> None:
    model, batch = deepfm(), make_split(ROWS, 1)
    targets_B = torch.where(batch.labels_N > 0, 0.95, 0.05)
    loss = F.binary_cross_entropy_with_logits(model(batch.ids_NF), targets_B)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    found = gradients_of_a_step(model, batch, make_execution(), label_smoothing=0.1)
    for (name, gradient), wanted in zip(found.items(), expected, strict=True):
        torch.testing.assert_close(gradient, wanted, msg=lambda m, n=name: n + m)


def test_dropped_ids_are_unknown_in_the_share_asked_for_and_anew_each_step(
    make_split: MakeSplit, make_execution: Callable[..., Execution]
) -> None:
    batch, met = make_split(3000, 1), []
    model = deepfm()
    model.register_forward_pre_hook(lambda _model, args: met.append(args[0].clone()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    settings = Regularisation(id_dropout=0.25)
    step = TrainingStep(model, optimizer, 3000, make_execution(), batch, settings)
    for _ in range(2):
        step(batch.ids_NF, batch.labels_N)
    first, second = (ids_BF != batch.ids_NF for ids_BF in met)
    known = batch.ids_NF > 0
    assert first[known].float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert (met[0][first] == 0).all()
    assert not torch.equal(first, second)


@pytest.mark.parametrize("recipe", [{"dropout": 0.5}, {"id_dropout": 0.3}])
def test_what_is_random_does_not_depend_on_passes(
    make_split: MakeSplit, make_execution: Callable[..., Execution], recipe: dict[str, float]
) -> None:
    batch = make_split(ROWS, 1)
    network = {key: value for key, value in recipe.items() if key == "dropout"}
    regularisation = {key: value for key, value in recipe.items() if key != "dropout"}
    found = []
    for rows in (ROWS, 5):
        torch.manual_seed(3)
        model = deepfm(**network)
        execution = make_execution(micro_batch_size=rows)
        torch.manual_seed(4)
        found.append(gradients_of_a_step(model, batch, execution, **regularisation))
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-7)
    torch.manual_seed(5)
    other = gradients_of_a_step(deepfm(**network), batch, make_execution(), **regularisation)
    assert any(not torch.allclose(other[name], gradient) for name, gradient in found[0].items())


# --- epochs -------------------------------------------------------------------------------------


def test_redrawn_tables_start_anew_and_all_else_stays() -> None:
    model = deepfm()
    optimizer = build_optimizer(model, 0.1, 0.1, 0.0)
    model(torch.zeros(2, len(FIELD_SIZES), dtype=torch.int32)).sum().backward()
    optimizer.step()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    drawn = []
    for seed in (7, 8, 7):
        redraw_embeddings(model, optimizer, seed)
        drawn.append(model.embedding.table.weight.clone())
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    assert (model.linear.table.weight == 0).all()
    tables = [embedding.table.weight for embedding in trained_tables(model)]
    assert len(tables) == 2
    for name, weight in model.named_parameters():
        is_table = any(weight is table for table in tables)
        assert torch.equal(weight, before[name]) != is_table, name
        assert (weight in optimizer.state) != is_table, name


def test_embeddings_are_redrawn_with_every_epoch_but_the_first(
    make_split: MakeSplit, make_settings: MakeSettings
) -> None:
    model, tables = deepfm(), []
    model.register_forward_pre_hook(
        lambda m, _args: tables.append(m.embedding.table.weight.detach().clone())
    )
    settings = make_settings(redraw_embeddings=True, epochs=3, encoder_lr=1e-6, batch_size=32)
    fit(model, make_split(32, 1), make_split(32, 2), settings)
    moved = [not torch.allclose(a, b, atol=1e-4) for a, b in itertools.pairwise(tables)]
    # Of each epoch one step and one validation.
    assert moved == [False, True, False, True, False]


@pytest.mark.parametrize("metric", ["auc", "logloss"])
def test_the_metric_asked_for_says_what_is_best(train: Train, metric: str) -> None:
    result = train(lr=1e-2, encoder_lr=1e-2, early_stopping_metric=metric, epochs=6)
    by_auc = max(result.history, key=lambda record: record.valid_auc)
    by_logloss = min(result.history, key=lambda record: record.valid_logloss)
    assert by_auc.step != by_logloss.step  # or this would show nothing
    assert result.best == {"auc": by_auc, "logloss": by_logloss}[metric]


# --- batch normalisation ------------------------------------------------------------------------


def test_a_batch_of_one_row_is_normalised_by_what_ran_before() -> None:
    norm = BatchNorm(3)
    for seed in range(3):
        norm(torch.randn(8, 3, generator=torch.Generator().manual_seed(seed)) * 2 + 1)
    state = {name: value.clone() for name, value in norm.state_dict().items()}
    row = torch.ones(1, 3)
    in_training = norm(row)
    assert torch.equal(in_training, norm.eval()(row))
    assert all(torch.equal(value, state[name]) for name, value in norm.state_dict().items())


def test_an_epoch_may_end_with_one_row(make_split: MakeSplit, make_settings: MakeSettings) -> None:
    model = deepfm(batch_norm=True)
    result = fit(model, make_split(33, 1), make_split(32, 2), make_settings(epochs=1))
    assert result.history[-1].step == 3


def test_batch_normalisation_meets_all_of_a_batch_or_nothing(
    make_split: MakeSplit, make_settings: MakeSettings
) -> None:
    with pytest.raises(SettingsError, match="cut into passes of 8, and batch normalisation"):
        fit(
            deepfm(batch_norm=True),
            make_split(32, 1),
            make_split(32, 2),
            make_settings(micro_batch_size=8),
        )


def test_a_model_with_batch_normalisation_goes_on_exactly(
    make_split: MakeSplit,
    make_settings: MakeSettings,
    point: ResumePoint,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    rows = make_split(100, 1, noise=0.2), make_split(60, 2, noise=0.2)
    settings = make_settings(validate_every_steps=3)
    recipe = {"batch_norm": True, "dropout": 0.3}
    whole = fit(deepfm(**recipe), *rows, settings)
    model = deepfm(**recipe)
    signal_in_step(model, 5, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(model, *rows, settings, resume=point)
    assert_equal_runs(fit(deepfm(**recipe), *rows, settings, resume=point), whole)
    assert "Going on from step 5" in caplog.text

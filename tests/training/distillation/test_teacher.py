import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training.distillation.teacher import Teacher, Teaching
from llm_ctr_pipeline.training.fit import FitResult, fit
from llm_ctr_pipeline.training.settings import (
    Execution,
    Regularisation,
    TeacherSettings,
    TrainingSettings,
)
from llm_ctr_pipeline.training.state import ResumePoint
from llm_ctr_pipeline.training.step import TrainingStep
from tests.baselines import describe, move_weights
from tests.training.runs import assert_equal_runs, fail_in_step
from tests.training.steps import KeepsGradients
from tests.training.test_history import TRAINED

MakeModel = Callable[..., LlmCtr]
MakeSplit = Callable[..., EncodedSplit]
MakeExecution = Callable[..., Execution]
MakeSettings = Callable[..., TrainingSettings]

SOFTENED = {"weight": 0.3, "temperature": 2.0}


def teacher_of(model: nn.Module, **settings: Any) -> Teacher:
    chosen = TeacherSettings(path="single_phase", **(SOFTENED | settings))
    return Teacher(model, chosen, "digest", TRAINED)


def deepfm(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    model = describe("deepfm", **changes).build()
    move_weights(model)
    return model


@pytest.fixture
def teach(make_model: MakeModel, make_split: MakeSplit, make_settings: MakeSettings) -> Any:
    """Train a DeepFM, always the same, with a teacher if one is given."""

    def run(
        teacher: Teacher | None,
        resume: ResumePoint | None = None,
        model: nn.Module | None = None,
        flipped: bool = False,
        **changes: Any,
    ) -> FitResult:
        train, valid = make_split(100, 1, noise=0.2), make_split(60, 2, noise=0.2)
        if flipped:
            train = EncodedSplit(train.ids_NF, 1 - train.labels_N)
        settings = make_settings(validate_every_steps=3, **changes)
        model = model or deepfm()
        torch.manual_seed(settings.seed)  # what drops ids draws from this generator
        return fit(model, train, valid, settings, None, resume, teacher)

    return run


# --- the loss -----------------------------------------------------------------------------------


def test_the_loss_of_two_rows_is_what_it_is_by_hand(make_execution: MakeExecution) -> None:
    """w = 0.3, T = 2: σ(z) is 0.9 and 0.5, σ(z/T) 0.75 and 0.5, the teacher's σ(t/T) 0.2."""
    teaching = Teaching(teacher_of(deepfm()), make_execution(), 2)
    z_B = torch.tensor([2 * math.log(3), 0.0])
    t_B = torch.tensor([-2 * math.log(4), -2 * math.log(4)])
    of_labels = F.binary_cross_entropy_with_logits(z_B, torch.tensor([1.0, 0.0]))
    by_labels = (-math.log(0.9) - math.log(0.5)) / 2
    by_teacher = (-(0.2 * math.log(0.75) + 0.8 * math.log(0.25)) - math.log(0.5)) / 2
    assert by_labels == pytest.approx(0.399254, abs=1e-6)
    assert by_teacher == pytest.approx(0.929860, abs=1e-6)
    found = teaching.loss(of_labels, z_B, t_B).item()
    assert found == pytest.approx(0.7 * by_labels + 0.3 * 4 * by_teacher, rel=1e-6)
    assert found == pytest.approx(1.395309, abs=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 5.0])
def test_the_gradient_is_that_of_both_terms(
    make_execution: MakeExecution, temperature: float
) -> None:
    """∂/∂z = [(1 − w)·(σ(z) − y) + w·T·(σ(z/T) − σ(t/T))] / B."""
    teaching = Teaching(teacher_of(deepfm(), temperature=temperature), make_execution(), 3)
    z_B = torch.tensor([1.5, -0.5, 0.2], dtype=torch.float64, requires_grad=True)
    t_B = torch.tensor([-1.0, 2.0, 0.2], dtype=torch.float64)
    labels_B = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    of_labels = F.binary_cross_entropy_with_logits(z_B, labels_B)
    (found,) = torch.autograd.grad(teaching.loss(of_labels, z_B, t_B), z_B)
    by_labels = z_B.sigmoid() - labels_B
    by_teacher = temperature * ((z_B / temperature).sigmoid() - (t_B / temperature).sigmoid())
    torch.testing.assert_close(found, (0.7 * by_labels + 0.3 * by_teacher).detach() / 3)


def test_at_temperature_one_the_targets_are_mixed(make_execution: MakeExecution) -> None:
    teaching = Teaching(teacher_of(deepfm(), temperature=1.0), make_execution(), 2)
    z_B, t_B, labels_B = torch.tensor([[1.5, -0.5], [0.3, -2.0], [1.0, 0.0]])
    found = teaching.loss(F.binary_cross_entropy_with_logits(z_B, labels_B), z_B, t_B)
    mixed_B = 0.7 * labels_B + 0.3 * t_B.sigmoid()
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(z_B, mixed_B))


@pytest.mark.parametrize(
    "changes", [{"weight": -0.1}, {"weight": 1.1}, {"temperature": 0.0}, {"path": "distilled"}]
)
def test_what_no_teacher_can_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TeacherSettings(**({"path": "single_phase"} | SOFTENED | changes))


# --- a step -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [None, 5])
def test_a_step_learns_the_teachers_log_odds_of_each_row(
    make_model: MakeModel, make_split: MakeSplit, make_execution: MakeExecution, rows: int | None
) -> None:
    """In passes as well, and with smoothed labels."""
    model, batch, decoder = deepfm(), make_split(12, 1), make_model(embedding_dropout=0.5)
    execution = make_execution(micro_batch_size=rows, eval_batch_size=7)
    optimizer, teacher = KeepsGradients(model), teacher_of(decoder)  # type: ignore[arg-type]
    smoothed = Regularisation(label_smoothing=0.1)
    teaching = Teaching(teacher, execution, len(batch))
    step = TrainingStep(model, optimizer, len(batch), execution, batch, smoothed, teaching)
    step(batch.ids_NF, batch.labels_N)

    z_B, t_B = model(batch.ids_NF), decoder.eval()(batch.ids_NF).detach()
    targets_B = torch.where(batch.labels_N > 0, 0.95, 0.05)
    by_labels = F.binary_cross_entropy_with_logits(z_B, targets_B)
    by_teacher = F.binary_cross_entropy_with_logits(z_B / 2, (t_B / 2).sigmoid())
    loss = 0.7 * by_labels + 0.3 * 4 * by_teacher
    assert step.loss_sum.item() / len(batch) == pytest.approx(loss.item(), rel=1e-5)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    for (name, _), gradient in zip(model.named_parameters(), expected, strict=True):
        torch.testing.assert_close(optimizer.noted[name], gradient, rtol=1e-4, atol=1e-6)
    assert int(step.correct) == int(((z_B > 0) == (batch.labels_N > 0)).sum())


class Noting(nn.Module):
    """A teacher that notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(0.5))
        self.seen: list[Tensor] = []

    def forward(self, ids_BF: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.seen.append(ids_BF.clone())
        return self.bias.expand(len(ids_BF))


def test_the_teacher_sees_the_ids_that_are_dropped(
    make_split: MakeSplit, make_execution: MakeExecution
) -> None:
    model, batch, noting = deepfm(), make_split(12, 1), Noting()
    execution = make_execution(eval_batch_size=5)
    teaching = Teaching(teacher_of(noting.train()), execution, len(batch))
    dropping = Regularisation(id_dropout=0.9)
    optimizer = KeepsGradients(model)  # type: ignore[arg-type]
    step = TrainingStep(model, optimizer, len(batch), execution, batch, dropping, teaching)
    noting.seen.clear()
    step(batch.ids_NF, batch.labels_N)
    assert [len(ids) for ids in noting.seen] == [5, 5, 2]
    assert torch.equal(torch.cat(noting.seen), batch.ids_NF)


# --- a training ---------------------------------------------------------------------------------


def test_a_teacher_without_weight_changes_nothing(teach: Any, make_model: MakeModel) -> None:
    assert_equal_runs(teach(teacher_of(make_model(), weight=0.0)), teach(None))


def test_a_teacher_with_all_the_weight_leaves_nothing_to_the_labels(
    teach: Any, make_model: MakeModel
) -> None:
    """But for which of the weights are best: validations are by labels alone."""
    alone = {"weight": 1.0, "temperature": 1.0}
    right, flipped = (teach(teacher_of(make_model(), **alone), flipped=f) for f in (False, True))
    assert [r.valid_auc for r in right.history] == [r.valid_auc for r in flipped.history]
    assert [r.train_loss for r in right.history] == [r.train_loss for r in flipped.history]
    assert [r.train_accuracy for r in right.history] != [r.train_accuracy for r in flipped.history]
    for name, weight in right.best_weights.items():
        assert torch.equal(flipped.best_weights[name], weight), name
    labelled = teach(None)
    assert [r.valid_auc for r in right.history] != [r.valid_auc for r in labelled.history]


def test_the_teacher_stays_as_it_is_and_is_no_part_of_what_is_kept(
    teach: Any, make_model: MakeModel, point: ResumePoint
) -> None:
    decoder = make_model()
    before = {name: weight.clone() for name, weight in decoder.state_dict().items()}
    result = teach(teacher_of(decoder), point)
    assert all(torch.equal(decoder.state_dict()[name], weight) for name, weight in before.items())
    assert all(weight.grad is None for weight in decoder.parameters())
    _, weights, optimizer = point.load()
    assert result.best_weights.keys() == weights.keys() == deepfm().state_dict().keys()
    moments = sum(len(group["params"]) for group in optimizer["param_groups"])
    assert moments == len([*deepfm().parameters()])


@pytest.mark.parametrize("step", [2, 9])
def test_a_distilled_run_that_was_killed_goes_on_exactly(
    teach: Any, make_model: MakeModel, point: ResumePoint, step: int
) -> None:
    recipe = {"keep_state_every_steps": 1, "id_dropout": 0.2, "label_smoothing": 0.1}
    whole = teach(teacher_of(make_model()), **recipe)
    model = deepfm()
    fail_in_step(model, step)
    with pytest.raises(RuntimeError, match="killed"):
        teach(teacher_of(make_model()), point, model, **recipe)
    assert point.load()[0].step == step - 1
    assert_equal_runs(teach(teacher_of(make_model()), point, **recipe), whole)

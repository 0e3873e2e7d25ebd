"""The loop: what it learns from, what it keeps, when it stops.

Most tests train a table of one weight an id, so that they say what each weight must be.
"""

import copy
import logging
from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from llm_ctr_pipeline import progress
from llm_ctr_pipeline.data.input.batches import EncodedSplit, shuffled_batches
from llm_ctr_pipeline.metrics.checks import SingleClassError
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training import fit as fit_module
from llm_ctr_pipeline.training.fit import NonFiniteLossError, fit
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.machine.devices import DeviceError
from llm_ctr_pipeline.training.score import score_split
from llm_ctr_pipeline.training.settings import Execution, TrainingSettings

MakeModel = Callable[..., LlmCtr]
MakeSplit = Callable[..., EncodedSplit]
MakeSettings = Callable[..., TrainingSettings]

CPU = torch.device("cpu")
TIMED = {"seconds", "rows_per_second"}


class OneWeightAnId(nn.Module):
    """Logistic regression over the ids of one field; notes what it is trained on."""

    def __init__(self, ids: int) -> None:
        super().__init__()
        self.table = nn.Embedding(ids, 1)
        nn.init.zeros_(self.table.weight)
        self.trained_on: list[list[int]] = []
        self.scored: list[int] = []

    def forward(self, ids_BF: Tensor) -> Tensor:
        if self.training:
            self.trained_on.append(ids_BF[:, 0].tolist())
        else:
            self.scored.append(len(ids_BF))
        log_odds_B: Tensor = self.table(ids_BF[:, 0])[:, 0]
        return log_odds_B


def one_field(ids: list[int], labels: list[int]) -> EncodedSplit:
    return EncodedSplit(torch.tensor(ids, dtype=torch.int32)[:, None], torch.tensor(labels).float())


def untimed(history: list[ValidationRecord]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in record.to_json().items() if name not in TIMED}
        for record in history
    ]


def turned(labels: list[int]) -> list[int]:
    return [1 - label for label in labels]


LABELS = [0, 1, 1, 0, 1, 0, 0, 1]
# What is learnt of these rows makes the validation worse with every step.
MISLEADING = one_field(list(range(8)), turned(LABELS))
VALID = one_field(list(range(8)), LABELS)


def scrambled_table() -> OneWeightAnId:
    """A table that ranks all rows of `VALID` right before it is trained on `MISLEADING`."""
    model = OneWeightAnId(8)
    spread_8 = torch.linspace(0.2, 1.0, 8)
    model.table.weight.data[:, 0] = torch.where(torch.tensor(LABELS) > 0, spread_8, -spread_8)
    return model


def test_a_separable_task_is_learnt(
    make_model: MakeModel, make_split: MakeSplit, make_settings: MakeSettings
) -> None:
    result = fit(make_model(), make_split(256, 1), make_split(128, 2), make_settings())
    assert result.best.valid_auc > 0.99
    assert result.history[-1].train_loss < 0.1 * result.history[0].train_loss
    assert result.history[-1].train_accuracy > 95


def test_the_best_weights_are_the_best_validations_and_not_the_last(
    make_settings: MakeSettings, make_execution: Callable[..., Execution]
) -> None:
    model = scrambled_table()
    snapshots: list[dict[str, Tensor]] = []
    result = fit(
        model,
        MISLEADING,
        VALID,
        make_settings(epochs=8, lr=0.1, encoder_lr=0.1),
        on_validation=lambda _: snapshots.append(copy.deepcopy(model.state_dict())),
    )
    aucs = [record.valid_auc for record in result.history]
    best = aucs.index(max(aucs))
    assert aucs[-1] < aucs[best]
    assert result.best is result.history[best]
    assert torch.equal(result.best_weights["table.weight"], snapshots[best]["table.weight"])
    assert not torch.equal(result.best_weights["table.weight"], model.table.weight)
    assert torch.equal(snapshots[-1]["table.weight"], model.table.weight)
    model.load_state_dict(result.best_weights)
    scores = score_split(model, VALID, make_execution(eval_batch_size=3))
    assert roc_auc_score(VALID.labels_N, scores) == result.best.valid_auc


def test_of_equal_validations_the_first_is_the_best(make_settings: MakeSettings) -> None:
    settings = make_settings(epochs=3, lr=0.01)
    result = fit(scrambled_table(), MISLEADING, VALID, settings)
    assert {record.valid_auc for record in result.history} == {1.0}
    assert result.best is result.history[0]
    assert [record.improved for record in result.history] == [True, False, False]


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_training_stops_after_as_many_validations_without_a_better_one(
    make_settings: MakeSettings, patience: int
) -> None:
    settings = make_settings(epochs=50, lr=0.05, patience=patience)
    result = fit(scrambled_table(), MISLEADING, VALID, settings)
    assert result.stopped_early
    assert len(result.history) == 1 + patience
    assert result.history[-1].step == 1 + patience


def test_patience_begins_anew_with_every_better_validation(
    monkeypatch: pytest.MonkeyPatch, make_settings: MakeSettings
) -> None:
    aucs = iter([0.6, 0.5, 0.7, 0.7, 0.6, 0.9])

    def pretend(labels: Any, probabilities: Any, split: str) -> Any:
        metrics = classification_metrics(labels, probabilities, split)
        return type(metrics)(**{**metrics.to_json(), "auc": next(aucs)})

    classification_metrics = fit_module.classification_metrics
    monkeypatch.setattr(fit_module, "classification_metrics", pretend)
    result = fit(scrambled_table(), VALID, VALID, make_settings(epochs=50, patience=2))
    assert [record.valid_auc for record in result.history] == [0.6, 0.5, 0.7, 0.7, 0.6]
    assert [record.improved for record in result.history] == [True, False, True, False, False]
    assert result.best is result.history[2]


def test_without_need_of_patience_training_ends_with_its_epochs(
    make_settings: MakeSettings,
) -> None:
    result = fit(scrambled_table(), VALID, VALID, make_settings(epochs=3, patience=5))
    assert not result.stopped_early
    assert [record.epoch for record in result.history] == [1, 2, 3]


@pytest.mark.parametrize(
    ("every", "steps"),
    [(None, [7, 14]), (3, [3, 6, 7, 10, 13, 14]), (7, [7, 14]), (100, [7, 14])],
)
def test_validations_come_within_an_epoch_and_at_its_end(
    make_settings: MakeSettings, every: int | None, steps: list[int]
) -> None:
    train = one_field([0, 1] * 10, [0, 1] * 10)
    settings = make_settings(epochs=2, batch_size=3, validate_every_steps=every)
    result = fit(OneWeightAnId(2), train, train, settings)
    assert [record.step for record in result.history] == steps
    assert [record.epoch for record in result.history] == pytest.approx([s / 7 for s in steps])


def test_each_records_training_figures_are_of_the_rows_since_the_one_before(
    make_settings: MakeSettings,
) -> None:
    train = one_field(list(range(8)), LABELS)
    model = scrambled_table()
    settings = make_settings(
        epochs=2, batch_size=3, validate_every_steps=2, lr=1e-9, encoder_lr=1e-9
    )
    result = fit(model, train, VALID, settings)
    for record, batches in zip(
        result.history, [slice(0, 2), slice(2, 3), slice(3, 5), slice(5, 6)], strict=True
    ):
        rows = torch.tensor(list(chain.from_iterable(model.trained_on[batches])))
        expected = F.binary_cross_entropy_with_logits(
            scrambled_table()(rows[:, None]), train.labels_N[rows]
        )
        assert record.train_loss == pytest.approx(expected.item(), rel=1e-5)
        assert record.train_accuracy == 100
        assert record.seconds > 0
        assert record.rows_per_second == pytest.approx(len(rows) / record.seconds)


def test_the_loss_is_noted_within_an_epoch_too(
    monkeypatch: pytest.MonkeyPatch, make_settings: MakeSettings
) -> None:
    monkeypatch.setattr(fit_module, "LOSSES_AN_EPOCH", 3)
    train = one_field(list(range(8)), LABELS)
    model = scrambled_table()
    settings = make_settings(epochs=2, batch_size=1, lr=1e-9, encoder_lr=1e-9)
    result = fit(model, train, VALID, settings)
    assert [step for step, _ in result.losses] == [3, 6, 8, 9, 12, 15, 16]
    since = 0
    for step, loss in result.losses:
        rows = torch.tensor(list(chain.from_iterable(model.trained_on[since:step])))
        expected = F.binary_cross_entropy_with_logits(
            scrambled_table()(rows[:, None]), train.labels_N[rows]
        )
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        since = step


def test_training_accuracy_is_the_percentage_on_the_right_side(
    make_settings: MakeSettings,
) -> None:
    train = one_field([0, 1, 2, 3, 4, 5, 6, 7], [*LABELS[:6], *turned(LABELS[6:])])
    result = fit(scrambled_table(), train, VALID, make_settings(epochs=1, lr=1e-9))
    assert result.history[0].train_accuracy == 75.0


def test_every_row_is_trained_on_once_an_epoch_and_each_epoch_has_its_order(
    make_settings: MakeSettings,
) -> None:
    train = one_field(list(range(50)), [0, 1] * 25)
    orders = {}
    for seed in (5, 6):
        model = OneWeightAnId(50)
        fit(model, train, VALID, make_settings(epochs=3, batch_size=8, seed=seed))
        assert [len(batch) for batch in model.trained_on] == [8, 8, 8, 8, 8, 8, 2] * 3
        for epoch in range(3):
            order = list(chain.from_iterable(model.trained_on[7 * epoch : 7 * epoch + 7]))
            assert Counter(order) == Counter(range(50))
            orders[seed, epoch] = order
    assert len({tuple(order) for order in orders.values()}) == 6
    assert list(range(50)) not in orders.values()


def test_an_epochs_order_is_fixed_by_seed_and_epoch() -> None:
    torch.manual_seed(1)
    first = torch.cat(list(shuffled_batches(20, 6, seed=3, epoch=2, device=CPU)))
    torch.manual_seed(2)
    again = torch.cat(list(shuffled_batches(20, 7, seed=3, epoch=2, device=CPU)))
    assert torch.equal(first, again)
    assert first.dtype == torch.int64


def test_the_same_seed_gives_the_same_run_bit_for_bit(
    make_model: MakeModel, make_split: MakeSplit, make_settings: MakeSettings
) -> None:
    results, states = [], []
    for seed in (5, 5, 6):
        model = make_model()
        settings = make_settings(epochs=2, validate_every_steps=3, seed=seed)
        results.append(fit(model, make_split(100, 1, 0.2), make_split(60, 2, 0.2), settings))
        states.append(model.state_dict())
    first, second, other = (untimed(result.history) for result in results)
    assert first == second
    assert first != other
    for name, weight in states[0].items():
        assert torch.equal(weight, states[1][name])
        assert torch.equal(results[0].best_weights[name], results[1].best_weights[name])


def test_a_loss_that_is_not_a_number_ends_training_at_the_next_validation(
    make_settings: MakeSettings,
) -> None:
    model = scrambled_table()
    seen = []

    def spoil(record: ValidationRecord) -> None:
        seen.append(record.step)
        model.table.weight.data[3] = float("nan")

    settings = make_settings(epochs=9, lr=0.125, encoder_lr=0.25)
    with pytest.raises(NonFiniteLossError) as raised:
        fit(model, VALID, VALID, settings, on_validation=spoil)
    message = str(raised.value)
    assert seen == [1]
    assert "the training loss became nan by step 2 (the last validation was at step 1)" in message
    assert "lower training.lr (now 0.125) and training.encoder_lr (now 0.25)" in message
    assert "training.precision to 32-true" in message


def test_a_loss_that_is_not_finite_is_also_looked_for_between_validations(
    monkeypatch: pytest.MonkeyPatch, make_settings: MakeSettings
) -> None:
    monkeypatch.setattr(fit_module, "STEPS_BETWEEN_LOSS_CHECKS", 3)
    monkeypatch.setattr(fit_module, "LOSSES_AN_EPOCH", 1)
    model = scrambled_table()
    model.table.weight.data[3] = float("inf")
    with pytest.raises(NonFiniteLossError, match=r"by step 3 \(the last validation was at step 0"):
        fit(model, VALID, VALID, make_settings(batch_size=1))
    assert len(model.trained_on) == 3


@pytest.mark.parametrize("label", [0, 1])
def test_a_validation_of_one_class_is_refused_before_any_step(
    make_settings: MakeSettings, label: int
) -> None:
    model = OneWeightAnId(8)
    with pytest.raises(SingleClassError, match="the validation split: all 8 rows have label"):
        fit(model, VALID, one_field(list(range(8)), [label] * 8), make_settings())
    assert model.trained_on == []


def test_a_device_that_is_not_there_is_refused_before_any_step(
    make_settings: MakeSettings,
) -> None:
    model = OneWeightAnId(8)
    with pytest.raises(DeviceError):
        fit(model, VALID, VALID, make_settings(device="cuda:99"))
    assert model.trained_on == []


@pytest.mark.parametrize("eval_batch_size", [1, 7, 64, 1000])
def test_the_validation_auc_is_over_the_whole_split(
    make_model: MakeModel,
    make_split: MakeSplit,
    make_settings: MakeSettings,
    eval_batch_size: int,
) -> None:
    valid = make_split(100, 2, noise=0.3)
    model = make_model()
    settings = make_settings(epochs=1, eval_batch_size=eval_batch_size)
    (record,) = fit(model, make_split(64, 1), valid, settings).history
    with torch.no_grad():
        batches = torch.split(valid.ids_NF, eval_batch_size)  # alike, as batches round differently
        log_odds_N = torch.cat([model.eval()(ids_BF) for ids_BF in batches])
    assert record.valid_auc == pytest.approx(roc_auc_score(valid.labels_N, log_odds_N), abs=1e-12)
    loss = F.binary_cross_entropy_with_logits(log_odds_N, valid.labels_N).item()
    assert record.valid_loss == pytest.approx(loss, rel=1e-5)
    assert record.valid_logloss == pytest.approx(loss, rel=1e-5)
    right = (log_odds_N > 0) == (valid.labels_N > 0)
    assert record.valid_accuracy == pytest.approx(100 * right.double().mean().item())


def test_validation_takes_so_many_rows_at_a_time_in_evaluation_mode(
    make_settings: MakeSettings,
) -> None:
    model = OneWeightAnId(8)
    fit(model, VALID, VALID, make_settings(epochs=2, eval_batch_size=3))
    assert model.scored == [3, 3, 2] * 2
    assert len(model.trained_on) == 2


def test_every_validation_is_reported_as_it_comes(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[ValidationRecord] = []
    model = scrambled_table()
    with caplog.at_level(logging.INFO, logger="llm_ctr_pipeline"):
        result = fit(model, VALID, VALID, make_settings(epochs=2), on_validation=seen.append)
    assert seen == result.history
    ran, *validations = caplog.messages
    assert ran.startswith("Training runs with device cpu, precision 32-true, ")
    assert [message.endswith("  best") for message in validations] == [True, False]
    assert validations[0].startswith("epoch 1.00  loss 0.")
    assert "  AUC 1.0000" in validations[0]


def test_the_running_loss_is_that_of_the_validation_to_come(
    make_settings: MakeSettings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOSSES", 0)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    with caplog.at_level(logging.INFO, logger="llm_ctr_pipeline"):
        result = fit(scrambled_table(), VALID, VALID, make_settings(epochs=1))
    end = next(at for at, said in enumerate(caplog.messages) if said.startswith("epoch 1.00"))
    assert f"  loss {result.best.train_loss:.4f}  " in caplog.messages[end - 1]


def test_bfloat16_trains_float32_weights(
    make_model: MakeModel, make_split: MakeSplit, make_settings: MakeSettings
) -> None:
    model = make_model()
    settings = make_settings(precision="bf16-mixed", epochs=2)
    result = fit(model, make_split(256, 1), make_split(128, 2), settings)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert result.best.valid_auc > 0.95

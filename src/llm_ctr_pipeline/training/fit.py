"""The training loop: end to end, early stopping, the best weights kept, exact resume.

Shape legend: N rows of a split, B rows of a batch, F fields.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.input.batches import (
    Batch,
    EncodedSplit,
    TrainingRows,
    on_device_if_it_fits,
)
from llm_ctr_pipeline.metrics.checks import check_both_classes
from llm_ctr_pipeline.metrics.classification import classification_metrics
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.optimizer import build_optimizer, freeze_all_but
from llm_ctr_pipeline.training.progress import training_progress
from llm_ctr_pipeline.training.score import predict_log_odds, probabilities
from llm_ctr_pipeline.training.settings import FitSettings
from llm_ctr_pipeline.training.signals import deferred_stop
from llm_ctr_pipeline.training.state import (
    StateMismatchError,
    TrainingState,
    frozen_digest,
    frozen_state,
    load_state,
    random_states,
    save_state,
    set_random_states,
    unfrozen_state,
)
from llm_ctr_pipeline.training.step import TrainingStep

logger = logging.getLogger(__name__)

# Reading the loss makes the host wait for the device, so it is read once in so many steps.
STEPS_BETWEEN_LOSS_CHECKS = 100


class NonFiniteLossError(RefusedError, ArithmeticError):
    """The training loss became NaN or infinite."""


@dataclass(frozen=True)
class ResumePoint:
    """Where the training state is kept.

    Attributes:
        file: A run that finds it goes on from it; whoever wants no more of it deletes it.
        key: Names the settings and the data; a state with another key is refused.
        every: Validations after which it is written; also at the end, on Ctrl-C and on SIGTERM. 0
            for never.
    """

    file: Path
    key: str
    every: int = 1


@dataclass(frozen=True)
class FitResult:
    """What training gives.

    Attributes:
        history: One record a validation, in order.
        best: The record of the best validation AUC.
        best_weights: The model's state at `best`, on the CPU.
        stopped_early: Whether patience ended training.
    """

    history: list[ValidationRecord]
    best: ValidationRecord
    best_weights: dict[str, Tensor]
    stopped_early: bool


def fit(
    model: nn.Module,
    train: TrainingRows,
    valid: EncodedSplit,
    settings: FitSettings,
    on_validation: Callable[[ValidationRecord], None] | None = None,
    resume: ResumePoint | None = None,
) -> FitResult:
    """Train a model until the epochs or the patience end.

    Args:
        model: Ids int `[B, F]` to log-odds float `[B]`. Its weights are changed in place, and which
            of them are frozen.
        train: Rows to train on.
        valid: Rows whose AUC decides which weights are best.
        settings: How to train.
        on_validation: Called with each record as it comes.
        resume: Where to keep the training state; None to keep none.

    Returns:
        The history and the best weights, which are not the last ones.

    Raises:
        SingleClassError: The validation split has one class, so no AUC.
        NonFiniteLossError: The loss became NaN or infinite.
        StateMismatchError: The kept state is of other settings or data.
        DeviceError: The device or precision is not to be had.
        DeviceMemoryError: The device's memory does not hold a step or a validation.
        UnknownComponentError: A component that is to train is no part of the model.
    """
    check_both_classes(valid.labels_N.numpy() > 0, "the validation split")
    loop = _Loop(model, train, valid, settings, on_validation, resume)
    stopped_early = loop.run()
    state = loop.state
    best = max(state.history, key=lambda record: record.valid_auc)
    best_weights = {**_on_cpu(frozen_state(model)), **state.best_weights}
    return FitResult(state.history, best, best_weights, stopped_early)


def _on_cpu(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that training does not change."""
    return {name: weight.detach().cpu().clone() for name, weight in weights.items()}


class _Loop:
    """The loop's objects, and its state between two steps."""

    def __init__(
        self,
        model: nn.Module,
        train: TrainingRows,
        valid: EncodedSplit,
        settings: FitSettings,
        on_validation: Callable[[ValidationRecord], None] | None,
        resume: ResumePoint | None,
    ) -> None:
        self.settings = settings
        self.on_validation = on_validation
        self.resume = resume
        self.module = model
        freeze_all_but(model, settings.components)
        optimizer = build_optimizer(model, settings.lr, settings.encoder_lr, settings.weight_decay)
        self.step = TrainingStep.set_up(
            model, optimizer, settings.batch_size, settings.execution, sample=valid
        )
        self.model, self.optimizer = self.step.model, self.step.optimizer
        self.device = self.step.device
        self.train = on_device_if_it_fits(train, self.device)
        self.valid = valid
        self.steps_an_epoch = math.ceil(len(train) / settings.batch_size)
        self.state = TrainingState("memory" if isinstance(train, EncodedSplit) else "stream")
        self.clock = time.perf_counter()
        if resume is not None:
            self.state.frozen = frozen_digest(model)
            if resume.file.exists():
                self._restore(resume)

    def run(self) -> bool:
        """Train; True if the patience ended it."""
        settings = self.settings
        first_epoch = self.state.step // self.steps_an_epoch
        if self._out_of_patience():  # the state that training went on from was its last
            return True
        self.model.train()
        self.clock = time.perf_counter()
        with (
            deferred_stop() as stop,
            training_progress(self.steps_an_epoch, settings.epochs) as progress,
        ):
            for epoch in range(first_epoch, settings.epochs):
                done = self.state.step - epoch * self.steps_an_epoch
                progress.start_epoch(epoch, done)
                for batch in self._batches(epoch, done):
                    self._train_on(batch)
                    progress.advance()
                    due = self._validation_due()
                    if due:
                        progress.report(self._validate())
                    stopping = stop.signal is not None
                    if self._keeping_due(validated=due, stopping=stopping):
                        self._keep(stopping=stopping)
                    if stopping:
                        stop.raise_if_arrived()
                    if self._out_of_patience():
                        return True
        return False

    def _out_of_patience(self) -> bool:
        return self.state.without_gain >= self.settings.patience

    def _batches(self, epoch: int, done: int) -> Iterator[Batch]:
        """An epoch's batches after those that are done."""
        settings = self.settings
        return self.train.batches(settings.batch_size, settings.seed, epoch, self.device, done)

    def _train_on(self, batch: Batch) -> None:
        ids_BF, labels_B = batch
        self.step(ids_BF, labels_B)
        self.state.rows += len(labels_B)
        self.state.step += 1
        if self.state.step % STEPS_BETWEEN_LOSS_CHECKS == 0:
            self._check_loss()

    def _check_loss(self) -> None:
        loss_sum = self.step.loss_sum
        if not bool(torch.isfinite(loss_sum)):
            last_good = self.state.history[-1].step if self.state.history else 0
            raise NonFiniteLossError(
                f"the training loss became {loss_sum.item()} by step {self.state.step} (the last "
                f"validation was at step {last_good}): lower training.lr (now "
                f"{self.settings.lr:g}) and training.encoder_lr (now "
                f"{self.settings.encoder_lr:g}), or set training.precision to 32-true; nothing "
                "was saved, an earlier checkpoint is as it was"
            )

    def _validation_due(self) -> bool:
        every = self.settings.validate_every_steps
        in_epoch = self.state.step % self.steps_an_epoch
        return in_epoch == 0 or (every is not None and in_epoch % every == 0)

    def _validate(self) -> ValidationRecord:
        self._collect()
        self._check_loss()
        self.model.eval()
        log_odds_N = predict_log_odds(
            self.model, self.valid, self.settings.execution.eval_batch_size, self.device
        )
        self.model.train()
        record = self._record(log_odds_N)
        state = self.state
        state.history.append(record)
        state.without_gain = 0 if record.improved else state.without_gain + 1
        if record.improved:
            state.best_weights = _on_cpu(unfrozen_state(self.module))
        state.rows, state.seconds = 0, 0.0
        self.step.loss_sum.zero_()
        self.step.correct.zero_()
        self._announce(record)
        self.clock = time.perf_counter()
        return record

    def _record(self, log_odds_N: Tensor) -> ValidationRecord:
        labels_N = self.valid.labels_N
        metrics = classification_metrics(
            labels_N.numpy(), probabilities(log_odds_N), "the validation split"
        )
        loss = F.binary_cross_entropy_with_logits(log_odds_N.double(), labels_N.double())
        state = self.state
        before = max((record.valid_auc for record in state.history), default=-math.inf)
        return ValidationRecord(
            epoch=state.step / self.steps_an_epoch,
            step=state.step,
            train_loss=state.loss_sum / state.rows,
            train_accuracy=100 * state.correct / state.rows,
            valid_loss=loss.item(),
            valid_accuracy=metrics.accuracy,
            valid_auc=metrics.auc,
            valid_logloss=metrics.logloss,
            seconds=state.seconds,
            rows_per_second=state.rows / state.seconds,
            improved=metrics.auc > before,
        )

    def _announce(self, record: ValidationRecord) -> None:
        logger.info(
            "epoch %.2f  train loss %.4f  valid AUC %.4f  valid log loss %.4f  %s rows/s%s",
            record.epoch,
            record.train_loss,
            record.valid_auc,
            record.valid_logloss,
            f"{record.rows_per_second:,.0f}",
            "  (best so far)" if record.improved else "",
        )
        if self.on_validation is not None:
            self.on_validation(record)

    def _collect(self) -> None:
        """Bring the sums since the last validation, and the clock, into the state."""
        self.state.loss_sum = self.step.loss_sum.item()
        self.state.correct = int(self.step.correct.item())
        self.state.seconds += time.perf_counter() - self.clock
        self.clock = time.perf_counter()

    def _keeping_due(self, *, validated: bool, stopping: bool) -> bool:
        every = 0 if self.resume is None else self.resume.every
        if every == 0:
            return False
        at_end = self.state.step == self.settings.epochs * self.steps_an_epoch
        its_turn = len(self.state.history) % every == 0 or at_end or self._out_of_patience()
        return stopping or (validated and its_turn)

    def _keep(self, *, stopping: bool) -> None:
        """Write the training state."""
        assert self.resume is not None  # noqa: S101 - it is due
        if not self._is_finite():
            logger.warning("Not kept: the weights or the loss are no longer finite")
            return
        self._collect()
        self.state.random = random_states(self.device)
        self.state.loss_scale = self.step.scaler.state_dict()
        save_state(
            self.resume.file,
            self.resume.key,
            self.state,
            unfrozen_state(self.module),
            self.optimizer.state_dict(),
        )
        if stopping:
            step = self.state.step
            logger.info("Stopped after step %d: the same command goes on from there", step)
        self.clock = time.perf_counter()

    def _is_finite(self) -> bool:
        """Whether going on from here makes sense: a diverged state must not replace a good one."""
        tensors = [self.step.loss_sum, *self.module.parameters()]
        return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)

    def _restore(self, resume: ResumePoint) -> None:
        kept, weights, optimizer = load_state(resume.file, resume.key)
        if kept.rows_in != self.state.rows_in:
            raise StateMismatchError(
                f"{resume.file} is the state of a run with training.rows_in {kept.rows_in}, and "
                f"now it is {self.state.rows_in}, which gives another order of rows: set it to "
                f"{kept.rows_in} to go on, or training.resume to false to start over"
            )
        if kept.frozen != self.state.frozen:
            raise StateMismatchError(
                f"{resume.file} is the state of a run with other frozen weights: delete it, or set "
                "training.resume to false to start over"
            )
        self.state = kept
        self.module.load_state_dict({**frozen_state(self.module), **weights})
        self.optimizer.load_state_dict(optimizer)
        self.step.loss_sum += self.state.loss_sum
        self.step.correct += self.state.correct
        set_random_states(self.state.random, self.device)
        if self.state.loss_scale:
            self.step.scaler.load_state_dict(self.state.loss_scale)
        logger.info("Going on from step %d, kept in %s", self.state.step, resume.file)

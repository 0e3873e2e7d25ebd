"""The training loop: end to end, early stopping, the best weights kept, exact resume.

Shape legend: N rows of a split, B rows of a batch, F fields.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.input.batches import EncodedSplit, TrainingRows
from llm_ctr_pipeline.metrics.checks import check_both_classes
from llm_ctr_pipeline.metrics.classification import classification_metrics
from llm_ctr_pipeline.progress import TrainingBar
from llm_ctr_pipeline.training.distillation.teacher import Teacher, Teaching
from llm_ctr_pipeline.training.history import Ran, ValidationRecord
from llm_ctr_pipeline.training.machine.devices import (
    refusing_what_is_not_deterministic,
    resolve_device,
)
from llm_ctr_pipeline.training.machine.memory import on_device_if_it_fits
from llm_ctr_pipeline.training.optimizer import (
    build_optimizer,
    redraw_embeddings,
    set_learning_rates,
)
from llm_ctr_pipeline.training.ranks.group import naming_lost_ranks, ranks
from llm_ctr_pipeline.training.ranks.shards import held_part, whole
from llm_ctr_pipeline.training.score import probabilities, score_shared
from llm_ctr_pipeline.training.settings import TrainingSettings
from llm_ctr_pipeline.training.signals import deferred_stop
from llm_ctr_pipeline.training.state import (
    ResumePoint,
    StateMismatchError,
    TrainingState,
    check_limits,
    frozen_digest,
    on_cpu,
    random_states,
    set_random_states,
    split_state,
)
from llm_ctr_pipeline.training.step import TrainingStep

logger = logging.getLogger(__name__)

# Reading the loss makes the host wait for the device: once in so many steps, so often an epoch.
STEPS_BETWEEN_LOSS_CHECKS = 100
LOSSES_AN_EPOCH = 20
# Of a validation, what is better when it is larger: its sign and its name.
BETTER = {"auc": (1, "valid_auc"), "logloss": (-1, "valid_logloss")}


class NonFiniteLossError(RefusedError, ArithmeticError):
    """The training loss became NaN or infinite."""


@dataclass(frozen=True)
class FitResult:
    """What training gives.

    Attributes:
        history: One record a validation, in order.
        losses: See `StageSummary`.
        best: The record of the best validation.
        best_weights: The model's state at `best`, on the CPU.
        stopped_early: Whether patience ended training.
        ran: How it ran.
    """

    history: list[ValidationRecord]
    losses: list[tuple[int, float]]
    best: ValidationRecord
    best_weights: dict[str, Tensor]
    stopped_early: bool
    ran: Ran


@refusing_what_is_not_deterministic()
def fit(
    model: nn.Module,
    train: TrainingRows,
    valid: EncodedSplit,
    settings: TrainingSettings,
    on_validation: Callable[[ValidationRecord], None] | None = None,
    resume: ResumePoint | None = None,
    teacher: Teacher | None = None,
) -> FitResult:
    """Train a model until the epochs or the patience end, in all ranks at once.

    Args:
        model: Ids int `[B, F]` to log-odds float `[B]`. Those of its weights that require gradients
            are changed in place.
        train: Rows to train on.
        valid: Rows whose AUC or log loss decides which weights are best.
        settings: How to train.
        on_validation: Called with each record as it comes.
        resume: Where to keep the training state, which the leader writes; None to keep none.
        teacher: Whose log-odds the model learns beside the labels; validations are by labels alone.

    Returns:
        The history and the best weights, which are not the last ones; these in the leader alone.

    Raises:
        SingleClassError: The validation split has one class, so no AUC.
        NonFiniteLossError: The loss became NaN or infinite.
        StateMismatchError: The kept state is of other settings or data.
        DeviceError: The device or precision is not to be had, or not in a deterministic way.
        DeviceMemoryError: The device's memory does not hold a step or a validation.
        LostRankError: Another rank ended.
    """
    check_both_classes(valid.labels_N.numpy() > 0, "the validation split")
    optimizer = build_optimizer(model, settings.lr, settings.encoder_lr, settings.weight_decay)
    # Both before the step plans with the memory that is left.
    teaching = None if teacher is None else Teaching(teacher, settings, settings.batch_size)
    train = on_device_if_it_fits(train, model, resolve_device(settings.device))
    frozen = "" if resume is None else frozen_digest(model)
    step = TrainingStep(model, optimizer, settings.batch_size, settings, valid, settings, teaching)
    steps_an_epoch = math.ceil(len(train) / settings.batch_size)
    state = TrainingState("memory" if isinstance(train, EncodedSplit) else "stream", ran=step.ran)
    if resume is not None:
        state.frozen, state.after = frozen, resume.after
        if resume.file.exists():
            state = _put_back(resume, state, step)
            check_limits(resume.file, state, settings, steps_an_epoch)
    loop = _Loop(
        settings=settings,
        resume=resume,
        on_validation=on_validation,
        model=step.plain_model,
        train=train,
        valid=valid,
        step=step,
        steps_an_epoch=steps_an_epoch,
        loss_every=min(STEPS_BETWEEN_LOSS_CHECKS, math.ceil(steps_an_epoch / LOSSES_AN_EPOCH)),
        state=state,
    )
    stopped_early = loop.run()
    best = [record for record in state.history if record.improved][-1]
    frozen_weights = on_cpu(split_state(model)[0]) if ranks().leads else {}
    best_weights = {**frozen_weights, **state.best_weights}
    return FitResult(state.history, state.losses, best, best_weights, stopped_early, step.ran)


@dataclass
class _Loop:
    """Takes the steps, validates, and keeps the state between two steps."""

    # Settings
    settings: TrainingSettings
    resume: ResumePoint | None
    on_validation: Callable[[ValidationRecord], None] | None
    steps_an_epoch: int
    loss_every: int  # steps

    # Swappable parts; the step holds the model as it runs, its optimiser, loss scale and device
    model: nn.Module
    train: TrainingRows
    valid: EncodedSplit
    step: TrainingStep

    # State
    state: TrainingState
    clock: float = field(default_factory=time.perf_counter)
    kept_at: float = field(default_factory=time.perf_counter)
    lr: float = math.nan

    def run(self) -> bool:
        """Train; True if the patience ended it."""
        settings, state, steps = self.settings, self.state, self.steps_an_epoch
        if self.out_of_patience:  # the state that training went on from was its last
            return True
        self.step.model.train()
        with deferred_stop() as stop, naming_lost_ranks(), TrainingBar() as bar:
            for epoch in range(state.step // steps, settings.epochs):
                done = state.step - epoch * steps
                bar.begin(epoch, settings.epochs, steps, done)
                if settings.redraw_embeddings and epoch > 0 and done == 0:
                    redraw_embeddings(self.model, self.step.plain_optimizer, settings.seed + epoch)
                for ids_BF, labels_B in self.train.batches(
                    settings.batch_size, settings.seed, epoch, self.step.device, done
                ):
                    self.set_learning_rate()
                    self.step(ids_BF, labels_B)
                    state.step += 1
                    state.rows += len(labels_B)
                    bar.advance()
                    stop.signal, minutes_due, loss_due = self.agree(stop.signal, bar.loss_due)
                    if loss_due or state.step % self.loss_every == 0:
                        self.look_at_loss(bar)
                    record = self.validate() if self.validation_due else None
                    kept = (minutes_due or self.keeping_due) and self.keep()
                    if record is not None:  # told once it can no longer be lost
                        self.report(record)
                    if stop.signal is not None:
                        if kept or self.keep():
                            said = "Stopped after step %d: the same command goes on from there"
                            logger.info(said, state.step)
                        stop.raise_if_arrived()
                    if self.out_of_patience:
                        return True
        return False

    def agree(self, signal: int | None, loss_due: bool) -> tuple[int | None, bool, bool]:
        """What signal any rank was sent, and whether for any a state's or the loss's turn came."""
        minutes = self.settings.keep_state_every_minutes
        due = minutes is not None and time.perf_counter() - self.kept_at >= 60 * minutes
        sent, any_due, any_loss_due = ranks().largest(signal or 0, due, loss_due)
        return sent or None, bool(any_due), bool(any_loss_due)

    def set_learning_rate(self) -> None:
        """Set the next step's learning rates."""
        last_step = self.settings.epochs * self.steps_an_epoch
        drops = sum(not record.improved for record in self.state.history)
        self.lr = set_learning_rates(
            self.step.optimizer, self.settings, self.state.step, last_step, drops
        )

    @property
    def out_of_patience(self) -> bool:
        """Whether so many validations came without a better one."""
        return self.state.without_gain >= self.settings.patience

    @property
    def validation_due(self) -> bool:
        """Whether an epoch ends with this step, or its turn came within one."""
        every = self.settings.validate_every_steps
        in_epoch = self.state.step % self.steps_an_epoch
        return in_epoch == 0 or (every is not None and in_epoch % every == 0)

    def check_loss(self) -> float:
        """Sum the loss since the last validation; raise where it diverged: no use to train on."""
        loss_sum: float = sum(ranks().all_of(self.step.loss_sum.item()))
        if not math.isfinite(loss_sum):
            last_good = self.state.history[-1].step if self.state.history else 0
            raise NonFiniteLossError(
                f"the training loss became {loss_sum} by step {self.state.step} (the last "
                f"validation was at step {last_good}): lower training.lr (now "
                f"{self.settings.lr:g}) and training.encoder_lr (now "
                f"{self.settings.encoder_lr:g}), or set training.precision to 32-true; nothing "
                "was saved, an earlier checkpoint is as it was"
            )
        return loss_sum

    def look_at_loss(self, bar: TrainingBar) -> None:
        """Show the loss, and note it where its step came."""
        loss_sum, state = self.check_loss(), self.state
        speed = state.rows / (state.seconds + time.perf_counter() - self.clock)
        bar.show_loss(loss_sum / state.rows, speed)
        if state.step % self.loss_every == 0:
            state.note_loss(loss_sum)

    def validate(self) -> ValidationRecord:
        """Score the validation split, and keep the weights if they are the best."""
        self.collect()
        self.state.note_loss(self.check_loss())
        self.step.model.eval()
        log_odds_N = score_shared(
            self.step.forward, self.valid.ids_NF, self.settings.eval_batch_size, self.step.device
        )
        self.step.model.train()
        state = self.state
        measured = None if log_odds_N is None else self.record(log_odds_N)
        record: ValidationRecord = ranks().of_leader(measured)
        state.history.append(record)
        state.without_gain = 0 if record.improved else state.without_gain + 1
        if record.improved:
            best = whole(split_state(self.model)[1])
            state.best_weights = on_cpu(best) if ranks().leads else {}
        state.rows, state.seconds, state.noted = 0, 0.0, (0.0, 0)
        self.step.loss_sum.zero_()
        self.step.correct.zero_()
        logger.info(
            f"epoch {record.epoch:.2f}  loss {record.train_loss:.4f}, valid "
            f"{record.valid_logloss:.4f}  AUC {record.valid_auc:.4f}"
            f"{'  best' if record.improved else ''}"
        )
        self.clock = time.perf_counter()
        return record

    def report(self, record: ValidationRecord) -> None:
        """Hand a validation's record on; the time it takes is not training's."""
        started = time.perf_counter()
        if self.on_validation is not None:
            self.on_validation(record)
        self.clock += time.perf_counter() - started

    def record(self, log_odds_N: Tensor) -> ValidationRecord:
        """Measure the validation, and the training since the one before."""
        labels_N, state = self.valid.labels_N, self.state
        metrics = classification_metrics(
            labels_N.numpy(), probabilities(log_odds_N), "the validation split"
        )
        loss = F.binary_cross_entropy_with_logits(log_odds_N.double(), labels_N.double())
        sign, name = BETTER[self.settings.early_stopping_metric]
        before = max((sign * getattr(record, name) for record in state.history), default=-math.inf)
        return ValidationRecord(
            epoch=state.step / self.steps_an_epoch,
            step=state.step,
            train_loss=sum(state.loss_sums) / state.rows,
            train_accuracy=100 * state.correct / state.rows,
            valid_loss=loss.item(),
            valid_accuracy=metrics.accuracy,
            valid_auc=metrics.auc,
            valid_logloss=metrics.logloss,
            lr=self.lr,
            seconds=state.seconds,
            rows_per_second=state.rows / state.seconds,
            improved=sign * getattr(metrics, name.removeprefix("valid_")) > before,
        )

    def collect(self) -> None:
        """Bring the sums since the last validation, and the clock, into the state."""
        of_ranks = ranks().all_of((self.step.loss_sum.item(), int(self.step.correct.item())))
        self.state.loss_sums = tuple(loss_sum for loss_sum, _ in of_ranks)
        self.state.correct = sum(correct for _, correct in of_ranks)
        self.state.seconds += time.perf_counter() - self.clock
        self.clock = time.perf_counter()

    @property
    def keeping_due(self) -> bool:
        """Whether a state's turn came by validations or steps, or training ends here."""
        settings, state = self.settings, self.state
        steps = settings.keep_state_every_steps
        if steps is not None and state.step % steps == 0:
            return True
        at_end = state.step == settings.epochs * self.steps_an_epoch or self.out_of_patience
        its_turn = at_end or len(state.history) % max(1, settings.keep_state_every) == 0
        return self.validation_due and its_turn

    def keep(self) -> bool:
        """Write the training state; not one that diverged, which must not replace a good one."""
        if self.resume is None or self.settings.keep_state_every == 0:
            return False
        sums_and_weights = [self.step.loss_sum, *map(held_part, self.model.parameters())]
        is_finite = all(bool(torch.isfinite(tensor).all()) for tensor in sums_and_weights)
        if ranks().largest(not is_finite) != [0]:
            logger.warning("Not kept: the weights or the loss are no longer finite")
            return False
        self.collect()
        self.state.random = ranks().all_of(random_states(self.step.device))
        self.state.loss_scale = self.step.scaler.state_dict()
        weights, optimizer = self.step.state()
        if ranks().leads:
            self.resume.save(self.state, weights, optimizer)
        self.clock = self.kept_at = time.perf_counter()
        return True


def _put_back(resume: ResumePoint, now: TrainingState, step: TrainingStep) -> TrainingState:
    """Put all back as it was when the state was written; `now` is that of a run that starts over.

    Raises:
        StateMismatchError: It is of other settings, data, order of rows or frozen weights.
    """

    def refused(what: str, cure: str) -> StateMismatchError:
        return StateMismatchError(
            f"{resume.file} is the state of a run with {what}: {cure}, or set training.resume to "
            "false to start over"
        )

    kept, weights, optimizer = resume.load()
    if kept.after != now.after:
        logger.info("Not going on from %s: what it started from was trained further", resume.file)
        return now
    if kept.rows_in != now.rows_in:
        what = f"training.rows_in {kept.rows_in}, and now it is {now.rows_in}, which gives another"
        raise refused(f"{what} order of rows", f"set it to {kept.rows_in} to go on")
    if kept.ran and now.ran and (changed := kept.ran.changed(now.ran)):
        setting, was, is_now = changed
        what = f"{setting} {was}, and now it is {is_now}, asked for or picked for this machine"
        raise refused(what, f"set it to {was} to go on")
    if kept.frozen != now.frozen:
        raise refused("other frozen weights", "delete it")
    step.load_state(weights, optimizer)
    if kept.ran and now.ran and kept.ran.ranks != now.ran.ranks:
        logger.warning(
            "%s is the state of a run of %d process(es), and this one has %d: it goes on with the "
            "same rows, and rounding may differ",
            *(resume.file, kept.ran.ranks, now.ran.ranks),
        )
        kept.loss_sums = (sum(kept.loss_sums), *[0.0] * (now.ran.ranks - 1))
        kept.random = kept.random[:1] * now.ran.ranks
    step.loss_sum += kept.loss_sums[ranks().index]
    step.correct += kept.correct if ranks().leads else 0
    set_random_states(kept.random[ranks().index], step.device)
    if kept.loss_scale:
        step.scaler.load_state_dict(kept.loss_scale)
    logger.info("Going on from step %d, kept in %s", kept.step, resume.file)
    kept.ran = now.ran
    return kept

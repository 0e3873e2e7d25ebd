"""One optimiser step, in as many passes as memory asks for.

Shape legend: B rows of a batch, F fields.
"""

import copy
import logging
import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from lightning.fabric.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor, nn

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.input.batches import EncodedSplit, move
from llm_ctr_pipeline.models.layers import BatchNorm, RowDropout
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
from llm_ctr_pipeline.training.distillation.teacher import Teaching
from llm_ctr_pipeline.training.history import Ran
from llm_ctr_pipeline.training.machine.compilation import Forward, resolve_compile
from llm_ctr_pipeline.training.machine.devices import (
    count_weights,
    describe_device,
    make_fabric,
    resolve_precision,
)
from llm_ctr_pipeline.training.machine.memory import (
    check_validation,
    memory_of,
    naming_the_setting,
    plan_memory,
)
from llm_ctr_pipeline.training.optimizer import trained_tables
from llm_ctr_pipeline.training.ranks.group import ranks
from llm_ctr_pipeline.training.ranks.shards import as_held, exchange_weights, whole
from llm_ctr_pipeline.training.settings import NO_REGULARISATION, Execution, Regularisation
from llm_ctr_pipeline.training.state import random_states, set_random_states, split_state

logger = logging.getLogger(__name__)

_STRATEGIES = {DDPStrategy: "ddp", ModelParallelStrategy: "fsdp"}


class TrainingStep:
    """Forward, backward and optimiser over a batch, on the device that the settings name.

    A batch is shared out among the ranks, and a rank's share is cut into passes of equal size, give
    or take a row. All their gradients add up to the batch's: only the order of rounding depends on
    the number of ranks and passes. All ranks take as many passes.

    Args:
        model: Ids int `[B, F]` to log-odds float `[B]`; moved to the device. Under `fsdp` each rank
            keeps its part of it alone, but the leader, of whose copy that is the part.
        optimizer: Of the model's parameters, before its first step.
        batch_size: Rows of all batches but the last of an epoch.
        execution: How to run.
        sample: The rows to validate on, with which the device's memory is tried; at least one.
        regularisation: What keeps the model from learning its rows by heart.
        teaching: A teacher whose log-odds the model learns beside the labels, if it has one.

    Attributes:
        ran: What the settings came to.
        plain_model: What trains: the model, or the leader's copy of it.
        sharded: Whether each rank has its part of the weights.

    Raises:
        DeviceError: The device or precision is not to be had.
        DeviceMemoryError: Not even one row fits into the device's memory, or no validation.
        SettingsError: Batch normalisation meets a batch that is cut into passes or shared out.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batch_size: int,
        execution: Execution,
        sample: EncodedSplit,
        regularisation: Regularisation = NO_REGULARISATION,
        teaching: Teaching | None = None,
    ) -> None:
        self.ranks = ranks()
        self.fabric, self.scaler = make_fabric(execution, model, trains=True)
        self.device: torch.device = self.fabric.device
        self.sharded = isinstance(self.fabric.strategy, ModelParallelStrategy)
        # The leader goes on with the model, whole.
        self.plain_model = copy.deepcopy(model) if self.sharded and self.ranks.leads else model
        given, model = [*model.parameters()], self.plain_model
        both_ways = Forward(model)
        self.model = self.fabric.setup_module(both_ways)
        exchange_weights(optimizer, given, model.parameters())
        self.optimizer = self.fabric.setup_optimizers(optimizer)
        self.regularisation, self.plain_optimizer = regularisation, optimizer
        self.teaching = teaching
        self.tables = [embedding.table.weight for embedding in trained_tables(model)]
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.dropouts = [m for m in model.modules() if isinstance(m, RowDropout) and m.share > 0]

        def forward_backward(rows: int, *, alone: bool = True) -> None:
            ids_BF, labels_B = move(sample.take(torch.arange(rows) % len(sample)), self.device)
            with self._alone(alone):
                loss = F.binary_cross_entropy_with_logits(self.model(ids_BF), labels_B)
                self.fabric.backward(loss)

        def score(rows: int) -> None:
            ids_BF = sample.ids_NF[:rows].to(self.device)
            with torch.no_grad():
                self.model(ids_BF)
            if teaching is not None:
                teaching.log_odds(ids_BF)

        of_rank = math.ceil(batch_size / self.ranks.count)
        before = self.ranks.of_leader(random_states(self.device))  # all ranks draw the same
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        # No trial where a rank that ran out of memory would leave the others waiting in a pass.
        memory = None if self.sharded else memory_of(self.device)
        self.plan = plan_memory(
            model.train(),
            of_rank,
            execution,
            memory,
            forward_backward,
            gradients_at_once=resolve_compile(execution.compile, self.device) is not None,
        )
        check_validation(model, execution.eval_batch_size, memory, score)
        if self.ranks.count > 1:
            # PyTorch orders the gradients that it sends by when they came at first, and with it
            # how they round. So that a run that goes on rounds as it would have, that is now.
            for _ in range(2):
                forward_backward(1, alone=False)
            self.optimizer.zero_grad(set_to_none=True)
        set_random_states(before, self.device)
        for buffer, was in buffers:
            buffer.copy_(was)
        passes = self._passes(batch_size)
        self.usual_sizes = {len(part) for part in torch.empty(of_rank).tensor_split(passes)}
        is_cut = passes > 1 or self.ranks.count > 1
        if is_cut and any(isinstance(module, BatchNorm) for module in model.modules()):
            raise SettingsError(
                f"a batch of {batch_size} rows is cut into passes of {max(self.usual_sizes)}, and "
                "batch normalisation needs all of a batch at once: lower training.batch_size, "
                "leave training.micro_batch_size at null, train in one process, or set batch_norm "
                "to false"
            )
        mode = resolve_compile(
            execution.compile, self.device, passes, self.ranks.count, sharded=self.sharded
        )
        both_ways.compile_as(mode)
        self.ran = Ran(
            device=describe_device(self.device),
            precision=resolve_precision(execution.precision, self.device, count_weights(model)),
            float32_matmul=execution.float32_matmul,
            deterministic=execution.deterministic,
            compile=mode or "off",
            attention=next(
                (part.kernel for part in model.modules() if isinstance(part, LlmDecoder)), None
            ),
            micro_batch_size=max(self.usual_sizes),
            activation_checkpointing="on" if self.plan.activation_checkpointing else "off",
            ranks=self.ranks.count,
            strategy=_STRATEGIES.get(type(self.fabric.strategy), "none"),
        )
        logger.info("Training runs with %s", self.ran.in_words)
        # Sums stay on the device, so that no step waits for the host.
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=self.device)

    def __call__(self, ids_BF: Tensor, labels_B: Tensor) -> None:
        """Train on a batch, and add the loss and the right answers of this rank's rows to the sums.

        Args:
            ids_BF: Ids within each field, int `[B, F]`, of all ranks' rows.
            labels_B: Their labels, float `[B]`.

        Raises:
            DeviceMemoryError: The device's memory does not hold a pass.
        """
        rows = len(labels_B)
        own = self.ranks.own(rows)
        teacher_B = None if self.teaching is None else self.teaching.log_odds(ids_BF[own])
        # All that is random is drawn for the batch, so that ranks, passes and compiling do not
        # change it.
        if self.regularisation.id_dropout > 0:
            drawn_BF = torch.rand(ids_BF.shape, device=ids_BF.device)
            ids_BF = ids_BF.masked_fill(drawn_BF < self.regularisation.id_dropout, 0)
        for dropout in self.dropouts:
            dropout.draw(rows, ids_BF.device)
        with naming_the_setting(
            f"lower training.micro_batch_size (now {self.plan.micro_batch_size}) or set "
            "training.activation_checkpointing to on"
        ):
            passes, begun = self._passes(rows), own.start
            for number, part in enumerate(ids_BF[own].tensor_split(passes)):
                weight = self.ranks.count * len(part) / rows
                # A rank without rows takes part with another's, which weighs nothing.
                first = begun if weight > 0 else 0
                passed = slice(first, first + max(1, len(part)))
                for dropout in self.dropouts:
                    dropout.take(first, passed.stop - first)
                taught = None
                if teacher_B is not None and weight > 0:
                    taught = teacher_B[begun - own.start :][: len(part)]
                with self._alone(number + 1 < passes):
                    self.forward_backward(ids_BF[passed], labels_B[passed], weight, taught)
                begun += len(part)
            self._restrain()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def forward_backward(
        self, ids_BF: Tensor, labels_B: Tensor, weight: float, teacher_B: Tensor | None = None
    ) -> None:
        """Pass rows forward and backward.

        Args:
            ids_BF: Ids within each field, int `[B, F]`.
            labels_B: Labels, float `[B]`.
            weight: Of their mean loss in that of which this rank's gradient is; 0 counts nothing.
            teacher_B: As `Teaching` takes it.
        """
        log_odds_B = self.forward(ids_BF, often=len(labels_B) in self.usual_sizes)
        smoothing = self.regularisation.label_smoothing
        targets_B = labels_B if smoothing == 0 else (1 - smoothing) * labels_B + smoothing / 2
        loss = F.binary_cross_entropy_with_logits(log_odds_B, targets_B)
        if self.teaching is not None and teacher_B is not None:
            loss = self.teaching.loss(loss, log_odds_B, teacher_B)
        self.fabric.backward(loss if weight == 1 else loss * weight)
        if weight > 0:
            self.loss_sum += loss.detach() * len(labels_B)
            self.correct += ((log_odds_B.detach() > 0) == (labels_B > 0)).sum()

    def forward(self, ids_BF: Tensor, *, often: bool) -> Tensor:
        """Call the model as `Forward` does."""
        log_odds_B: Tensor = self.model(ids_BF, often=often)
        return log_odds_B

    def _alone(self, alone: bool) -> AbstractContextManager[Any]:
        """Whether the gradients of a pass stay this rank's until a later one sends the sum.

        They never do where a rank has room for its part of them alone.
        """
        if self.ranks.count == 1 or self.sharded:
            return nullcontext()
        unsent: AbstractContextManager[Any] = self.fabric.no_backward_sync(self.model, alone)
        return unsent

    def _restrain(self) -> None:
        """Add the penalty's gradient, and scale down what is too large then."""
        weight, norm = self.regularisation.embedding_l2, self.regularisation.gradient_clip_norm
        if weight == 0 and norm is None:
            return
        self.scaler.unscale_(self.plain_optimizer)
        for table in self.tables if weight > 0 else ():
            # ∇ ½·λ·‖E‖² = λ·E, without a pass of its own over the table.
            if table.grad is not None:
                table.grad.add_(table.detach(), alpha=weight)
        if norm is not None:
            nn.utils.clip_grad_norm_(self.weights, norm)

    def _passes(self, rows: int) -> int:
        """How many passes each rank takes for so many rows of all ranks."""
        of_rank = math.ceil(rows / self.ranks.count)
        return math.ceil(of_rank / self.plan.micro_batch_size)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What the model trained so far, and the optimiser's state, as `whole` gives both."""
        return whole(split_state(self.plain_model)[1]), whole(self.plain_optimizer.state_dict())

    def load_state(self, trained: dict[str, Tensor], optimizer: dict[str, Any]) -> None:
        """Put back what `state` gave, of whatever strategy and number of ranks."""
        held = self.plain_model.state_dict()
        now = {name: as_held(weight, held[name]) for name, weight in trained.items()}
        self.plain_model.load_state_dict(held | now)
        weights = [w for group in self.plain_optimizer.param_groups for w in group["params"]]
        moments = {
            number: {name: as_held(value, weights[number]) for name, value in of_weight.items()}
            for number, of_weight in optimizer["state"].items()
        }
        self.plain_optimizer.load_state_dict(optimizer | {"state": moments})

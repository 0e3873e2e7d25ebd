"""One optimiser step, in as many passes as memory asks for.

Shape legend: B rows of a batch, F fields.
"""

import logging

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.input.batches import EncodedSplit, move
from llm_ctr_pipeline.models.layers import BatchNorm, RowDropout
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
from llm_ctr_pipeline.training.distillation.teacher import Teaching
from llm_ctr_pipeline.training.history import Ran
from llm_ctr_pipeline.training.machine.compilation import both_ways, resolve_compile
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
from llm_ctr_pipeline.training.settings import NO_REGULARISATION, Execution, Regularisation
from llm_ctr_pipeline.training.state import random_states, set_random_states

logger = logging.getLogger(__name__)


class TrainingStep:
    """Forward, backward and optimiser over a batch, on the device that the settings name.

    A batch is cut into passes of equal size, give or take a row, whose gradients add up to the
    batch's: only the order of rounding depends on their number.

    Args:
        model: Ids int `[B, F]` to log-odds float `[B]`; moved to the device.
        optimizer: Of the model's parameters.
        batch_size: Rows of all batches but the last of an epoch.
        execution: How to run.
        sample: The rows to validate on, with which the device's memory is tried; at least one.
        regularisation: What keeps the model from learning its rows by heart.
        teaching: A teacher whose log-odds the model learns beside the labels, if it has one.

    Attributes:
        ran: What the settings came to.

    Raises:
        DeviceError: The device or precision is not to be had.
        DeviceMemoryError: Not even one row fits into the device's memory, or no validation.
        SettingsError: Batch normalisation meets a batch that is cut into passes.
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
        self.fabric, self.scaler = make_fabric(execution, model)
        self.device: torch.device = self.fabric.device
        self.model, self.optimizer = self.fabric.setup(model, optimizer)
        self.regularisation, self.plain_optimizer = regularisation, optimizer
        self.teaching = teaching
        self.tables = [embedding.table.weight for embedding in trained_tables(model)]
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.dropouts = [m for m in model.modules() if isinstance(m, RowDropout) and m.share > 0]

        def forward_backward(rows: int) -> None:
            ids_BF, labels_B = move(sample.take(torch.arange(rows) % len(sample)), self.device)
            loss = F.binary_cross_entropy_with_logits(self.model(ids_BF), labels_B)
            self.fabric.backward(loss)

        def score(rows: int) -> None:
            ids_BF = sample.ids_NF[:rows].to(self.device)
            with torch.no_grad():
                self.model(ids_BF)
            if teaching is not None:
                teaching.log_odds(ids_BF)

        before = random_states(self.device)
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        memory, at_once = memory_of(self.device), resolve_compile(execution.compile, self.device)
        self.plan = plan_memory(
            model.train(),
            batch_size,
            execution,
            memory,
            forward_backward,
            gradients_at_once=at_once is not None,
        )
        check_validation(model, execution.eval_batch_size, memory, score)
        set_random_states(before, self.device)
        for buffer, was in buffers:
            buffer.copy_(was)
        parts = self._parts(torch.empty(batch_size))
        self.usual_sizes = {len(part) for part in parts}
        if len(parts) > 1 and any(isinstance(module, BatchNorm) for module in model.modules()):
            raise SettingsError(
                f"a batch of {batch_size} rows is cut into passes of {max(self.usual_sizes)}, and "
                "batch normalisation needs all of a batch at once: lower training.batch_size, "
                "leave training.micro_batch_size at null, or set batch_norm to false"
            )
        mode = resolve_compile(execution.compile, self.device, passes=len(parts))
        self.forward = both_ways(self.fabric, model, self.model, mode)
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
        )
        logger.info("Training runs with %s", ", ".join(f"{k} {v}" for k, v in self.ran))
        # Sums stay on the device, so that no step waits for the host.
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=self.device)

    def __call__(self, ids_BF: Tensor, labels_B: Tensor) -> None:
        """Train on a batch, and add its loss and its right answers to the sums.

        Raises:
            DeviceMemoryError: The device's memory does not hold a pass.
        """
        teacher_B = None if self.teaching is None else self.teaching.log_odds(ids_BF)
        # All that is random is drawn for the batch, so that passes and compiling do not change it.
        if self.regularisation.id_dropout > 0:
            drawn_BF = torch.rand(ids_BF.shape, device=ids_BF.device)
            ids_BF = ids_BF.masked_fill(drawn_BF < self.regularisation.id_dropout, 0)
        for dropout in self.dropouts:
            dropout.draw(len(ids_BF), ids_BF.device)
        with naming_the_setting(
            f"lower training.micro_batch_size (now {self.plan.micro_batch_size}) or set "
            "training.activation_checkpointing to on"
        ):
            begun = 0
            for ids, labels in zip(self._parts(ids_BF), self._parts(labels_B), strict=True):
                for dropout in self.dropouts:
                    dropout.take(begun, len(labels))
                taught = None if teacher_B is None else teacher_B[begun : begun + len(labels)]
                self.forward_backward(ids, labels, len(labels_B), taught)
                begun += len(labels)
            self._restrain()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def forward_backward(
        self, ids_BF: Tensor, labels_B: Tensor, batch_rows: int, teacher_B: Tensor | None = None
    ) -> None:
        """Pass rows of a batch of `batch_rows` forward and backward; `teacher_B` as `Teaching`."""
        log_odds_B = self.forward(ids_BF, often=len(labels_B) in self.usual_sizes)
        smoothing = self.regularisation.label_smoothing
        targets_B = labels_B if smoothing == 0 else (1 - smoothing) * labels_B + smoothing / 2
        loss = F.binary_cross_entropy_with_logits(log_odds_B, targets_B)
        if self.teaching is not None and teacher_B is not None:
            loss = self.teaching.loss(loss, log_odds_B, teacher_B)
        share = loss if len(labels_B) == batch_rows else loss * (len(labels_B) / batch_rows)
        self.fabric.backward(share)
        self.loss_sum += loss.detach() * len(labels_B)
        self.correct += ((log_odds_B.detach() > 0) == (labels_B > 0)).sum()

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

    def _parts(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows.tensor_split(-(-len(rows) // self.plan.micro_batch_size))

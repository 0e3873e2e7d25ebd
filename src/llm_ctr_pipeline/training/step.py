"""One optimiser step, in as many passes as memory asks for.

Shape legend: B rows of a batch, F fields.
"""

import logging

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_ctr_pipeline.data.input.batches import EncodedSplit, move
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
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
from llm_ctr_pipeline.training.settings import Execution
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

    Attributes:
        ran: What the settings came to.

    Raises:
        DeviceError: The device or precision is not to be had.
        DeviceMemoryError: Not even one row fits into the device's memory, or no validation.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batch_size: int,
        execution: Execution,
        sample: EncodedSplit,
    ) -> None:
        self.fabric, self.scaler = make_fabric(execution, model)
        self.device: torch.device = self.fabric.device
        self.model, self.optimizer = self.fabric.setup(model, optimizer)

        def forward_backward(rows: int) -> None:
            ids_BF, labels_B = move(sample.take(torch.arange(rows) % len(sample)), self.device)
            loss = F.binary_cross_entropy_with_logits(self.model(ids_BF), labels_B)
            self.fabric.backward(loss)

        def score(rows: int) -> None:
            with torch.no_grad():
                self.model(sample.ids_NF[:rows].to(self.device))

        before = random_states(self.device)
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
        parts = self._parts(torch.empty(batch_size))
        self.usual_sizes = {len(part) for part in parts}
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
        with naming_the_setting(
            f"lower training.micro_batch_size (now {self.plan.micro_batch_size}) or set "
            "training.activation_checkpointing to on"
        ):
            for ids, labels in zip(self._parts(ids_BF), self._parts(labels_B), strict=True):
                self.forward_backward(ids, labels, len(labels_B))
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def forward_backward(self, ids_BF: Tensor, labels_B: Tensor, batch_rows: int) -> None:
        """Pass rows of a batch of `batch_rows` forward and backward."""
        log_odds_B = self.forward(ids_BF, often=len(labels_B) in self.usual_sizes)
        loss = F.binary_cross_entropy_with_logits(log_odds_B, labels_B)
        share = loss if len(labels_B) == batch_rows else loss * (len(labels_B) / batch_rows)
        self.fabric.backward(share)
        self.loss_sum += loss.detach() * len(labels_B)
        self.correct += ((log_odds_B.detach() > 0) == (labels_B > 0)).sum()

    def _parts(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows.tensor_split(-(-len(rows) // self.plan.micro_batch_size))

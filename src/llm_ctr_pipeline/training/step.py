"""One optimiser step, in as many passes as memory asks for.

Shape legend: B rows of a batch, F fields.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_ctr_pipeline.data.input.batches import EncodedSplit, move
from llm_ctr_pipeline.training.machine.compilation import both_ways, resolve_compile
from llm_ctr_pipeline.training.machine.devices import make_fabric
from llm_ctr_pipeline.training.machine.memory import CudaMemory, naming_the_setting, plan_memory
from llm_ctr_pipeline.training.settings import Execution
from llm_ctr_pipeline.training.state import random_states, set_random_states


class TrainingStep:
    """Forward, backward and optimiser over a batch, on the device that the settings name.

    A batch is cut into passes of equal size, give or take a row, whose gradients add up to the
    batch's: only the order of rounding depends on their number.

    Args:
        model: Ids int `[B, F]` to log-odds float `[B]`; moved to the device.
        optimizer: Of the model's parameters.
        batch_size: Rows of all batches but the last of an epoch.
        execution: How to run.
        sample: Rows to try on the device how much memory a row takes; at least one.

    Raises:
        DeviceError: The device or precision is not to be had.
        DeviceMemoryError: Not even one row fits into the device's memory.
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
        mode = resolve_compile(execution.compile, self.device)
        self.forward = both_ways(self.fabric, model, self.model, mode)

        def forward_backward(rows: int) -> None:
            ids_BF, labels_B = move(sample.take(torch.arange(rows) % len(sample)), self.device)
            log_odds_B = self.forward(ids_BF, often=False)
            self.fabric.backward(F.binary_cross_entropy_with_logits(log_odds_B, labels_B))

        before = random_states(self.device)
        memory = CudaMemory(self.device) if self.device.type == "cuda" else None
        self.plan = plan_memory(model.train(), batch_size, execution, memory, forward_backward)
        set_random_states(before, self.device)
        self.usual_sizes = {len(part) for part in self._parts(torch.empty(batch_size))}
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

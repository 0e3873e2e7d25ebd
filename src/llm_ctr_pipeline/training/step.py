"""One optimiser step, in as many passes as memory asks for.

Shape legend: B rows of a batch, F fields.
"""

import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from lightning.fabric.wrappers import _FabricModule, _FabricOptimizer
from torch import Tensor

from llm_ctr_pipeline.training.compilation import eager_unless
from llm_ctr_pipeline.training.memory_plan import MemoryPlan, naming_the_setting


class TrainingStep:
    """Forward, backward and optimiser over a batch.

    A batch is cut into passes of equal size, give or take a row, whose gradients add up to the
    batch's: only the order of rounding depends on their number.

    Args:
        fabric: What set up model and optimiser.
        model: Ids int `[B, F]` to log-odds float `[B]`.
        optimizer: Of the model's parameters.
        batch_size: Rows of all batches but the last of an epoch.
        plan: How a batch is cut up.
    """

    def __init__(
        self,
        fabric: Fabric,
        model: _FabricModule,
        optimizer: _FabricOptimizer,
        batch_size: int,
        plan: MemoryPlan,
    ) -> None:
        self.fabric = fabric
        self.model = model
        self.optimizer = optimizer
        self.plan = plan
        self.usual_sizes = {len(part) for part in self._parts(torch.empty(batch_size))}
        # Sums stay on the device, so that no step waits for the host.
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=fabric.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=fabric.device)

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
        with eager_unless(len(labels_B) in self.usual_sizes):
            log_odds_B = self.model(ids_BF)
            loss = F.binary_cross_entropy_with_logits(log_odds_B, labels_B)
            share = loss if len(labels_B) == batch_rows else loss * (len(labels_B) / batch_rows)
            self.fabric.backward(share)
        self.loss_sum += loss.detach() * len(labels_B)
        self.correct += ((log_odds_B.detach() > 0) == (labels_B > 0)).sum()

    def _parts(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows.tensor_split(-(-len(rows) // self.plan.micro_batch_size))

"""A trained model from whose log-odds another one learns, beside the labels.

Shape legend: B rows of a batch, F fields.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from llm_ctr_pipeline.training.history import Provenance
from llm_ctr_pipeline.training.score import forward_on_device, score_ids
from llm_ctr_pipeline.training.settings import Execution, TeacherSettings


@dataclass(frozen=True)
class Teacher:
    """A model that teaches; it stays as it is, and is no part of the model that learns.

    Attributes:
        model: Ids int `[B, F]` to log-odds float `[B]`.
        settings: How much of the loss is its, and at which temperature.
        digest: SHA-256 of its weights' file, in hexadecimal.
        trained: What trained it.
    """

    model: nn.Module
    settings: TeacherSettings
    digest: str
    trained: Provenance


class Teaching:
    """A teacher on the device that the settings name, in evaluation mode.

    Args:
        teacher: Its model is moved to the device.
        execution: On which device, in which precision, how many rows at a time.
        batch_size: Rows of all batches but the last of an epoch.

    Raises:
        DeviceError: The device or the precision is not to be had.
    """

    def __init__(self, teacher: Teacher, execution: Execution, batch_size: int) -> None:
        self.weight = teacher.settings.weight
        self.temperature = teacher.settings.temperature
        model = teacher.model.requires_grad_(False)
        self.forward, self.device = forward_on_device(model, execution)
        # So that whole batches have the shape that is compiled.
        self.rows_at_once = min(execution.eval_batch_size, batch_size)

    def log_odds(self, ids_BF: Tensor) -> Tensor:
        """The teacher's log-odds of a click, float32 `[B]` on the device.

        Args:
            ids_BF: Ids within each field, int `[B, F]`, none of them dropped.

        Raises:
            DeviceMemoryError: The device's memory does not hold so many rows at a time.
        """
        return score_ids(self.forward, ids_BF, self.rows_at_once, self.device)

    def loss(self, of_labels: Tensor, log_odds_B: Tensor, teacher_B: Tensor) -> Tensor:
        """The loss that the model learns by: (1 − w)·L(z, y) + w·T²·L(z / T, σ(t / T)).

        L is the mean cross-entropy, z are the model's log-odds, t the teacher's, y the labels, w
        the weight and T the temperature. T² keeps the size of the second term's gradient where
        T is another (Hinton et al. 2015, "Distilling the knowledge in a neural network", arXiv
        1503.02531, section 2; of two answers, whose softmax is the sigmoid of their difference).

        Args:
            of_labels: The first term's L, a scalar.
            log_odds_B: z, float `[B]`.
            teacher_B: t, float `[B]`.

        Returns:
            The loss in nats a row, a scalar.
        """
        softened_B = (teacher_B / self.temperature).sigmoid()
        of_teacher = F.binary_cross_entropy_with_logits(log_odds_B / self.temperature, softened_B)
        share = self.weight * self.temperature**2
        return (1 - self.weight) * of_labels + share * of_teacher

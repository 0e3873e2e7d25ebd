"""The plainest baseline: logistic regression, one weight for each id.

Shape legend: B rows, F fields.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.models.layers import FieldEmbedding
from llm_ctr_pipeline.models.settings import LogisticRegressionSettings


class LogisticRegression(nn.Module):
    """Click-through rate by a sum: logit = b + Σ_f w_f[id_f].

    Args:
        settings: There are none to choose.
        field_sizes: Number of ids of each of the F fields, id 0 ("unknown") included.
    """

    def __init__(self, settings: LogisticRegressionSettings, field_sizes: Sequence[int]) -> None:
        super().__init__()
        self.settings = settings
        self.field_sizes = tuple(field_sizes)
        # Zero says nothing about an id that training never meets; the loss is convex.
        self.linear = FieldEmbedding(field_sizes, 1, init_std=0.0)
        self.bias = nn.Parameter(torch.zeros(()))

    def describe(self) -> "LogisticRegressionDescription":
        """Describe the model, without its weights."""
        return LogisticRegressionDescription(config=self.settings, field_sizes=self.field_sizes)

    def forward(self, ids_BF: Tensor) -> Tensor:
        """Compute the log-odds of a click.

        Args:
            ids_BF: Ids within each field, int32 or int64, `[B, F]`.

        Returns:
            float32, `[B]`.
        """
        log_odds_B: Tensor = self.bias + self.linear(ids_BF).sum(dim=(1, 2))
        return log_odds_B


class LogisticRegressionDescription(Frozen):
    """All that builds the model again, but for its weights.

    Attributes:
        kind: Tells the descriptions of models apart.
        config: The model's settings.
        field_sizes: Number of ids of each field.
    """

    kind: Literal["logistic_regression"] = "logistic_regression"
    config: LogisticRegressionSettings
    field_sizes: tuple[int, ...]

    def build(self) -> LogisticRegression:
        """Build the model's frame."""
        return LogisticRegression(self.config, self.field_sizes)

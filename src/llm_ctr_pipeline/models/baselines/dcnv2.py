"""A baseline: DCNv2, cross layers with full matrices and a deep network.

Wang et al., "DCN V2", arXiv 2008.13535.

Shape legend: B rows, F fields, D embedding size, I = F·D, K width of the last hidden layer.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.models.layers import FieldEmbedding, Mlp, linear_float32, xavier_linear
from llm_ctr_pipeline.models.settings import DcnV2Settings


class CrossNetwork(nn.Module):
    """Crosses the input with itself: x_{l+1} = x_0 ⊙ (W_l · x_l + b_l) + x_l (equation 1).

    Args:
        width: Number of inputs I, and of outputs.
        layers: Number of cross layers; l of them reach interactions of l + 1 fields.

    Example::

        >>> cross = CrossNetwork(width=8, layers=2)
        >>> cross(torch.randn(3, 8)).shape
        torch.Size([3, 8])
    """

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(xavier_linear(width, width) for _ in range(layers))

    def forward(self, inputs_BI: Tensor) -> Tensor:
        """Cross inputs, float `[B, I]`; the result has their shape."""
        crossed_BI = inputs_BI
        for layer in self.layers:
            crossed_BI = inputs_BI * layer(crossed_BI) + crossed_BI
        return crossed_BI


class DcnV2(nn.Module):
    """Click-through rate by explicit crosses of all fields and a deep network.

    logit = w · [cross(x_0), MLP(x_0)] + b in the parallel structure, w · MLP(cross(x_0)) + b in the
    stacked one, with x_0 = flat(e).

    Args:
        settings: Sizes of the parts.
        field_sizes: Number of ids of each of the F fields, id 0 ("unknown") included.
    """

    def __init__(self, settings: DcnV2Settings, field_sizes: Sequence[int]) -> None:
        super().__init__()
        self.settings = settings
        self.field_sizes = tuple(field_sizes)
        width = len(field_sizes) * settings.embedding_dim
        self.embedding = FieldEmbedding(
            field_sizes, settings.embedding_dim, settings.embedding_init_std
        )
        self.cross = CrossNetwork(width, settings.cross_layers)
        self.mlp = Mlp(
            width, settings.hidden_sizes, settings.dropout, batch_norm=settings.batch_norm
        )
        beside = width if settings.structure == "parallel" else 0
        self.output = xavier_linear(beside + settings.hidden_sizes[-1], 1)

    def describe(self) -> "DcnV2Description":
        """Describe the model, without its weights."""
        return DcnV2Description(config=self.settings, field_sizes=self.field_sizes)

    def forward(self, ids_BF: Tensor) -> Tensor:
        """Compute the log-odds of a click.

        Args:
            ids_BF: Ids within each field, int32 or int64, `[B, F]`.

        Returns:
            float32, `[B]`.
        """
        embedded_BI = self.embedding(ids_BF).flatten(1)
        crossed_BI = self.cross(embedded_BI)
        if self.settings.structure == "stacked":
            features_BK = self.mlp(crossed_BI)
        else:
            features_BK = torch.cat([crossed_BI, self.mlp(embedded_BI)], dim=1)
        return linear_float32(features_BK, self.output)


class DcnV2Description(Frozen):
    """All that builds the model again, but for its weights.

    Attributes:
        kind: Tells the descriptions of models apart.
        config: The model's settings.
        field_sizes: Number of ids of each field.
    """

    kind: Literal["dcnv2"] = "dcnv2"
    config: DcnV2Settings
    field_sizes: tuple[int, ...]

    def build(self) -> DcnV2:
        """Build the model's frame, with random weights."""
        return DcnV2(self.config, self.field_sizes)

"""A baseline: FinalMLP, two deep networks whose outputs meet in a bilinear form.

Mao et al., "FinalMLP", arXiv 2304.00902.

Shape legend: B rows, F fields, D embedding size, I = F·D, K and L widths of the two streams' last
hidden layers, N heads.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.models.layers import (
    FieldEmbedding,
    Mlp,
    at_least_float32,
    xavier_linear,
)
from llm_ctr_pipeline.models.settings import FinalMlpSettings


class Gate(nn.Module):
    """Weighs each input of a stream: h = 2·σ(MLP(c)) ⊙ x (stream-specific feature selection).

    The context c is a vector that is learned, the same for all rows, so that a gate is as well.
    At first it is zero, as is every bias, and each input weighs 1. With a hidden layer c and the
    MLP's matrices then have no gradient, as in FuxiCTR, and the last bias alone learns.

    Args:
        width: Number of inputs I.
        context_dim: Length of the context D.
        hidden_sizes: Widths of the MLP's hidden layers; none for a linear gate.
    """

    def __init__(self, width: int, context_dim: int, hidden_sizes: Sequence[int]) -> None:
        super().__init__()
        self.context = nn.Parameter(torch.zeros(context_dim))
        self.mlp = Mlp(context_dim, hidden_sizes, dropout=0.0)
        self.output = xavier_linear((context_dim, *hidden_sizes)[-1], width)

    def forward(self, inputs_BI: Tensor) -> Tensor:
        """Weigh inputs, float `[B, I]`; the result has their shape."""
        weights_1I = 2 * torch.sigmoid(self.output(self.mlp(self.context[None])))
        weighed_BI: Tensor = inputs_BI * weights_1I
        return weighed_BI


class BilinearFusion(nn.Module):
    """Joins two streams: b + u · x + v · y + Σ_n xₙᵀ · Wₙ · yₙ (stream-level interaction).

    xₙ and yₙ are the n-th of N equal parts of x and y, and the bilinear terms add up.

    Args:
        left: Width K of x.
        right: Width L of y.
        heads: Number of parts N, which divides both.
    """

    def __init__(self, left: int, right: int, heads: int) -> None:
        super().__init__()
        self.left = xavier_linear(left, 1)
        # Its bias is the other's too: the two would only be added.
        self.right = xavier_linear(right, 1, bias=False)
        self.weight = nn.Parameter(torch.empty(heads, left // heads, right // heads))
        # Glorot's for one output, as FuxiCTR has it.
        nn.init.normal_(self.weight, std=(2 / (self.weight.numel() + 1)) ** 0.5)

    def forward(self, left_BK: Tensor, right_BL: Tensor) -> Tensor:
        """Join streams, float `[B, K]` and `[B, L]`; returns float32 `[B]`."""
        # Outside autocast: bfloat16 has steps of 1/128 at the size of a click's log-odds.
        with torch.autocast(left_BK.device.type, enabled=False):
            left_BK, right_BL = at_least_float32(left_BK), at_least_float32(right_BL)
            heads, left, right = self.weight.shape
            left_BNk, right_BNl = left_BK.view(-1, heads, left), right_BL.view(-1, heads, right)
            products_BNl = torch.einsum("bnk,nkl->bnl", left_BNk, self.weight)
            pairs_B = (products_BNl * right_BNl).sum(dim=(1, 2))
            joined_B: Tensor = self.left(left_BK)[:, 0] + self.right(right_BL)[:, 0] + pairs_B
            return joined_B


class FinalMlp(nn.Module):
    """Click-through rate by two deep networks, each with a gate of its own before it.

    logit = fusion(MLP_1(gate_1(flat(e))), MLP_2(gate_2(flat(e)))).

    Args:
        settings: Sizes of the parts.
        field_sizes: Number of ids of each of the F fields, id 0 ("unknown") included.
    """

    def __init__(self, settings: FinalMlpSettings, field_sizes: Sequence[int]) -> None:
        super().__init__()
        self.settings = settings
        self.field_sizes = tuple(field_sizes)
        dim = settings.embedding_dim
        width = len(field_sizes) * dim
        first, second = settings.hidden_sizes, settings.second_hidden_sizes
        self.embedding = FieldEmbedding(field_sizes, dim, settings.embedding_init_std)
        gates = [
            Gate(width, dim, settings.gate_hidden_sizes) if settings.gating else nn.Identity()
            for _ in range(2)
        ]
        self.gate, self.second_gate = gates
        self.mlp = Mlp(width, first, settings.dropout, batch_norm=settings.batch_norm)
        self.second_mlp = Mlp(
            width, second, settings.second_dropout, batch_norm=settings.second_batch_norm
        )
        self.output = BilinearFusion(first[-1], second[-1], settings.heads)

    def describe(self) -> "FinalMlpDescription":
        """Describe the model, without its weights."""
        return FinalMlpDescription(config=self.settings, field_sizes=self.field_sizes)

    def forward(self, ids_BF: Tensor) -> Tensor:
        """Compute the log-odds of a click.

        Args:
            ids_BF: Ids within each field, int32 or int64, `[B, F]`.

        Returns:
            float32, `[B]`.
        """
        embedded_BI = self.embedding(ids_BF).flatten(1)
        first_BK = self.mlp(self.gate(embedded_BI))
        second_BL = self.second_mlp(self.second_gate(embedded_BI))
        log_odds_B: Tensor = self.output(first_BK, second_BL)
        return log_odds_B


class FinalMlpDescription(Frozen):
    """All that builds the model again, but for its weights.

    Attributes:
        kind: Tells the descriptions of models apart.
        config: The model's settings.
        field_sizes: Number of ids of each field.
    """

    kind: Literal["finalmlp"] = "finalmlp"
    config: FinalMlpSettings
    field_sizes: tuple[int, ...]

    def build(self) -> FinalMlp:
        """Build the model's frame, with random weights."""
        return FinalMlp(self.config, self.field_sizes)

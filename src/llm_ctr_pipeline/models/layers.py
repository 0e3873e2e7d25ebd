"""The layers that the models are made of.

Shape legend: B rows, F fields, D embedding size, H the language model's hidden size, I inputs,
K width of the last hidden layer, O outputs, P width of the projector's layer between.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FieldEmbedding(nn.Module):
    """Looks up one vector for each field of a row: e_f = E[offset_f + id_f].

    All fields share one table E, in which each field has its own offset.

    Args:
        field_sizes: Number of ids of each of the F fields, id 0 ("unknown") included.
        embedding_dim: Embedding size D.
        init_std: Standard deviation of the normal distribution that the table starts from.

    Example::

        >>> embedding = FieldEmbedding((3, 5), embedding_dim=4, init_std=0.01)
        >>> ids_BF = torch.tensor([[0, 4], [2, 1], [2, 0]])
        >>> embedding(ids_BF).shape
        torch.Size([3, 2, 4])
    """

    offsets_F: Tensor

    def __init__(self, field_sizes: Sequence[int], embedding_dim: int, init_std: float) -> None:
        super().__init__()
        self.sizes = tuple(field_sizes)
        ends = torch.tensor(field_sizes).cumsum(0)
        self.init_std = init_std
        self.table = nn.Embedding(sum(field_sizes), embedding_dim)
        with torch.no_grad():
            self.table.weight.copy_(self.drawn_rows())
        # Rebuilt from the field sizes, so it has no place in a checkpoint.
        self.register_buffer("offsets_F", ends - torch.tensor(field_sizes), persistent=False)

    def drawn_rows(self, generator: torch.Generator | None = None) -> Tensor:
        """Rows for the table to start from, by a generator on the CPU; None for PyTorch's own."""
        return torch.empty(self.table.weight.shape).normal_(std=self.init_std, generator=generator)

    def take_over(self, smaller: "FieldEmbedding") -> None:
        """Copy the rows of a table whose ids are the first ids of each field here."""
        with torch.no_grad():
            for start, size, from_start in zip(
                self.offsets_F.tolist(), smaller.sizes, smaller.offsets_F.tolist(), strict=True
            ):
                rows = smaller.table.weight[from_start : from_start + size]
                self.table.weight[start : start + size] = rows

    def forward(self, ids_BF: Tensor) -> Tensor:
        """Look up embeddings, float `[B, F, D]`, of ids within each field, int `[B, F]`."""
        embedded_BFD: Tensor = self.table(ids_BF + self.offsets_F)
        return embedded_BFD


class GenEncoder(nn.Module):
    """Generates each field's features from the embeddings of all fields.

    h = γ · relu(W · flat(e)), W of shape `[F·D, F·D]` without bias ("supervised feature
    generation", arXiv 2512.14041).

    Args:
        num_fields: Number of fields F.
        embedding_dim: Embedding size D.
        gamma: Scale γ of the generated features; 6 for Avazu.

    Example::

        >>> gen = GenEncoder(num_fields=2, embedding_dim=4, gamma=6.0)
        >>> gen(torch.randn(3, 2, 4)).shape
        torch.Size([3, 2, 4])
    """

    def __init__(self, num_fields: int, embedding_dim: int, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        width = num_fields * embedding_dim
        self.generate = nn.Linear(width, width, bias=False)

    def forward(self, embedded_BFD: Tensor) -> Tensor:
        """Generate features, float `[B, F, D]`, from embeddings, float `[B, F, D]`."""
        generated_BFD = self.generate(embedded_BFD.flatten(1)).view_as(embedded_BFD)
        return self.gamma * torch.relu(generated_BFD)


class FieldLinear(nn.Module):
    """A linear layer of its own for each field: y_f = W_f · x_f + b_f.

    Each starts as `nn.Linear` does. All fields are one batched matrix product.

    Args:
        fields: Number of fields F.
        input_dim: Number of inputs I.
        output_dim: Number of outputs O.

    Example::

        >>> linear = FieldLinear(fields=2, input_dim=4, output_dim=8)
        >>> linear(torch.randn(3, 2, 4)).shape
        torch.Size([3, 2, 8])
    """

    def __init__(self, fields: int, input_dim: int, output_dim: int) -> None:
        super().__init__()
        bound = input_dim**-0.5
        self.weight = nn.Parameter(
            torch.empty(fields, input_dim, output_dim).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.empty(fields, output_dim).uniform_(-bound, bound))

    def forward(self, inputs_BFI: Tensor) -> Tensor:
        """Compute outputs, float `[B, F, O]`, from inputs, float `[B, F, I]`."""
        outputs_FBO = torch.baddbmm(self.bias[:, None], inputs_BFI.transpose(0, 1), self.weight)
        return outputs_FBO.transpose(0, 1)


class Projector(nn.Module):
    """Maps each field's features into the language model's space.

    t_f = dropout(LayerNorm(W₂ · dropout(gelu(W₁ · x_f + b₁)) + b₂)) + v_f, with the same weights
    for all fields, or with weights of each field's own ("per-token" networks: RankMixer, arXiv
    2507.15551). The vectors v_f start at zero, where they change nothing, and come after the norm,
    which would take their size away; so a token that was dropped is its field's vector.

    Args:
        fields: Number of fields F.
        input_dim: Input size I: D, or 2·D with the embeddings beside the generated features.
        hidden_dim: Width P of the layer between.
        output_dim: The language model's hidden size H.
        per_field: Whether the weights W, b are each field's own.
        vectors: Whether there are vectors v_f.
        dropout: Share of the layer between dropped in training.
        token_dropout: Share of whole tokens dropped in training.

    Example::

        >>> projector = Projector(fields=2, input_dim=4, hidden_dim=8, output_dim=32)
        >>> projector(torch.randn(3, 2, 4)).shape
        torch.Size([3, 2, 32])
    """

    def __init__(
        self,
        fields: int,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        *,
        per_field: bool = False,
        vectors: bool = False,
        dropout: float = 0.0,
        token_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        linear = partial(FieldLinear, fields) if per_field else nn.Linear
        self.layers = nn.Sequential(
            linear(input_dim, hidden_dim),
            nn.GELU(),
            *([RowDropout(dropout, (fields, hidden_dim))] if dropout > 0 else []),
            linear(hidden_dim, output_dim),
            nn.LayerNorm(output_dim),
        )
        self.token_dropout = RowDropout(token_dropout, (fields, 1))
        # A table, so that it does not decay; its start is given, so that nothing is drawn for it.
        start_FH = torch.zeros(fields, output_dim)
        self.vectors = nn.Embedding(fields, output_dim, _weight=start_FH) if vectors else None

    def forward(self, features_BFI: Tensor) -> Tensor:
        """Project features, float `[B, F, I]`, to feature tokens, float `[B, F, H]`."""
        tokens_BFH: Tensor = self.token_dropout(self.layers(features_BFI))
        return tokens_BFH if self.vectors is None else tokens_BFH + self.vectors.weight


def xavier_linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer whose weights start from Glorot's normal distribution, its bias from zero."""
    linear = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_normal_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor, in float32 where it has fewer bits."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def linear_float32(inputs_BK: Tensor, output: nn.Linear) -> Tensor:
    """Apply a layer of one output to float `[B, K]`; gives `[B]`, float32 under autocast too.

    bfloat16 has steps of 1/128 at the size of a click's log-odds.
    """
    with torch.autocast(inputs_BK.device.type, enabled=False):
        log_odds_B: Tensor = output(at_least_float32(inputs_BK))[:, 0]
        return log_odds_B


class RowDropout(nn.Module):
    """Drops a share of each row's values in training: y = x · m / (1 − p), m from Bernoulli(1 − p).

    Masks are drawn for a whole batch before it is cut into passes, and outside of what is compiled,
    so that neither changes them (`draw` and `take`). Called without, it draws as it goes.

    Args:
        share: Share p of the values dropped (Srivastava et al. 2014).
        shape: Shape of a row's mask; it is broadcast, so `(F, 1)` drops whole tokens.

    Example::

        >>> dropout = RowDropout(0.5, (3, 1))
        >>> dropout(torch.ones(2, 3, 4)).shape
        torch.Size([2, 3, 4])
    """

    def __init__(self, share: float, shape: Sequence[int]) -> None:
        super().__init__()
        self.share = share
        self.shape = tuple(shape)
        # Attributes, not buffers: a mask has no place in a checkpoint.
        self.drawn: Tensor | None = None
        self.kept: Tensor | None = None

    def draw(self, rows: int, device: torch.device) -> None:
        """Draw the masks of a batch's rows from PyTorch's generator of the device."""
        if self.drawn is None or len(self.drawn) < rows or self.drawn.device != device:
            self.drawn = torch.empty(rows, *self.shape, dtype=torch.bool, device=device)
        # In place: what runs as a CUDA graph reads the masks where they lay when it was recorded.
        self.drawn[:rows].bernoulli_(1 - self.share)

    def take(self, start: int, rows: int) -> None:
        """Use the masks of so many rows of the batch in the next pass."""
        self.kept = None if self.drawn is None else self.drawn[start : start + rows]

    def forward(self, values: Tensor) -> Tensor:
        """Drop values, float `[B, ...]`; all are kept outside training and with a share of 0."""
        if not self.training or self.share == 0:
            return values
        kept = self.kept
        if kept is None:
            shape = (len(values), *self.shape)
            kept = torch.empty(shape, dtype=torch.bool, device=values.device)
            kept = kept.bernoulli_(1 - self.share)
        return values * kept * (1 / (1 - self.share))


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation (arXiv 1502.03167) that takes a batch of one row as evaluation would."""

    def forward(self, inputs_BK: Tensor) -> Tensor:
        """Normalise float `[B, K]`; one row has no variance, so it takes the running statistics."""
        if self.training and len(inputs_BK) == 1:
            mean, variance = self.running_mean, self.running_var
            weight, bias, eps = self.weight, self.bias, self.eps
            return F.batch_norm(inputs_BK, mean, variance, weight, bias, training=False, eps=eps)
        normalised_BK: Tensor = super().forward(inputs_BK)
        return normalised_BK


class Mlp(nn.Module):
    """Computes a deep network's hidden layers; the output layer is the caller's.

    a_l = dropout(relu(norm(W_l · a_{l−1} + b_l))), W_l from Glorot's normal distribution, b_l from
    zero (the deep part of DeepFM, arXiv 1703.04247; the order of its parts is FuxiCTR's).

    Args:
        input_dim: Number of inputs I.
        hidden_sizes: Widths of the hidden layers, the last of them K.
        dropout: Share of activations dropped in training.
        batch_norm: Whether norm is batch normalisation; else it is nothing.

    Example::

        >>> mlp = Mlp(input_dim=8, hidden_sizes=(16, 6), dropout=0.1)
        >>> mlp(torch.randn(3, 8)).shape
        torch.Size([3, 6])
    """

    def __init__(
        self,
        input_dim: int,
        hidden_sizes: Sequence[int],
        dropout: float,
        *,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((input_dim, *hidden_sizes), hidden_sizes, strict=False):
            layers.append(xavier_linear(inputs, outputs))
            if batch_norm:
                layers.append(BatchNorm(outputs))
            # In place: the backward pass of ReLU needs its output alone.
            layers.append(nn.ReLU(inplace=True))
            if dropout > 0:
                layers.append(RowDropout(dropout, (outputs,)))
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs_BI: Tensor) -> Tensor:
        """Compute the last hidden activations, float `[B, K]`, from inputs, float `[B, I]`."""
        hidden_BK: Tensor = self.layers(inputs_BI)
        return hidden_BK

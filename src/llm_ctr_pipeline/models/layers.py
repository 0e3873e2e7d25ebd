"""The layers that the models are made of.

Shape legend: B rows, F fields, D embedding size, H the language model's hidden size, I inputs,
K width of the last hidden layer.
"""

from collections.abc import Sequence

import torch
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
        self.table = nn.Embedding(sum(field_sizes), embedding_dim)
        nn.init.normal_(self.table.weight, std=init_std)
        # Rebuilt from the field sizes, so it has no place in a checkpoint.
        self.register_buffer("offsets_F", ends - torch.tensor(field_sizes), persistent=False)

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


class Projector(nn.Module):
    """Maps each field's features into the language model's space, with the same weights for all.

    t_f = LayerNorm(W₂ · gelu(W₁ · h_f + b₁) + b₂).

    Args:
        embedding_dim: Input size D.
        hidden_dim: Width of the layer between.
        output_dim: The language model's hidden size H.

    Example::

        >>> projector = Projector(embedding_dim=4, hidden_dim=8, output_dim=32)
        >>> projector(torch.randn(3, 2, 4)).shape
        torch.Size([3, 2, 32])
    """

    def __init__(self, embedding_dim: int, hidden_dim: int, output_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(embedding_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, output_dim),
            nn.LayerNorm(output_dim),
        )

    def forward(self, features_BFD: Tensor) -> Tensor:
        """Project features, float `[B, F, D]`, to feature tokens, float `[B, F, H]`."""
        tokens_BFH: Tensor = self.layers(features_BFD)
        return tokens_BFH


class Mlp(nn.Module):
    """Computes a deep network's hidden layers; the output layer is the caller's.

    a_l = dropout(relu(W_l · a_{l−1} + b_l)), W_l from Glorot's normal distribution, b_l from zero
    (the deep part of DeepFM, arXiv 1703.04247).

    Args:
        input_dim: Number of inputs I.
        hidden_sizes: Widths of the hidden layers, the last of them K.
        dropout: Share of activations dropped in training.

    Example::

        >>> mlp = Mlp(input_dim=8, hidden_sizes=(16, 6), dropout=0.1)
        >>> mlp(torch.randn(3, 8)).shape
        torch.Size([3, 6])
    """

    def __init__(self, input_dim: int, hidden_sizes: Sequence[int], dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((input_dim, *hidden_sizes), hidden_sizes, strict=False):
            linear = nn.Linear(inputs, outputs)
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
            # In place: the backward pass of ReLU needs its output alone.
            layers += [linear, nn.ReLU(inplace=True)]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs_BI: Tensor) -> Tensor:
        """Compute the last hidden activations, float `[B, K]`, from inputs, float `[B, I]`."""
        hidden_BK: Tensor = self.layers(inputs_BI)
        return hidden_BK

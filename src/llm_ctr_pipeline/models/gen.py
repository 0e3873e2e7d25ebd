"""The GEN encoder: supervised feature generation.

Shape legend: B rows, F fields, D embedding size.
"""

import torch
from torch import Tensor, nn


class GenEncoder(nn.Module):
    """Generates each field's representation from the embeddings of all fields.

    h = gamma * relu(W · flat(e)), W of shape `[F·D, F·D]` without bias ("supervised feature
    generation", arXiv 2512.14041).

    Args:
        num_fields: Number of fields F.
        embedding_dim: Embedding size D.
        gamma: Scale of the generated features; 6 for Avazu.
    """

    def __init__(self, num_fields: int, embedding_dim: int, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.generate = nn.Linear(
            num_fields * embedding_dim, num_fields * embedding_dim, bias=False
        )

    def forward(self, embedded_BFD: Tensor) -> Tensor:
        """Generate features, float `[B, F, D]`, from embeddings, float `[B, F, D]`."""
        generated_BFD = self.generate(embedded_BFD.flatten(1)).view_as(embedded_BFD)
        return self.gamma * torch.relu(generated_BFD)

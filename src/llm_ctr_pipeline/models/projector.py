"""From the encoder's space into the language model's.

Shape legend: B rows, F fields, D embedding size, H the language model's hidden size.
"""

from torch import Tensor, nn


class Projector(nn.Module):
    """Linear(D, hidden) → GELU → Linear(hidden, H) → LayerNorm(H), the same for every field.

    Args:
        embedding_dim: Input size D.
        hidden_dim: Width of the layer between.
        output_dim: The language model's hidden size H.
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

"""Field embeddings.

Shape legend: B rows, F fields, D embedding size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FieldEmbedding(nn.Module):
    """One table over the ids of all fields, each field with its own offset.

    Args:
        field_sizes: Number of ids of each of the F fields, id 0 ("unknown") included.
        embedding_dim: Embedding size D.
        init_std: Standard deviation of the normal distribution the table starts from.
    """

    offsets_F: Tensor

    def __init__(self, field_sizes: Sequence[int], embedding_dim: int, init_std: float) -> None:
        super().__init__()
        self.sizes = tuple(field_sizes)
        ends = torch.tensor(field_sizes).cumsum(0)
        self.table = nn.Embedding(int(ends[-1]), embedding_dim)
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
        """Look up every field's embedding.

        Args:
            ids_BF: Ids within each field, int32 or int64, `[B, F]`.

        Returns:
            Embeddings, float, `[B, F, D]`.
        """
        embedded_BFD: Tensor = self.table(ids_BF + self.offsets_F)
        return embedded_BFD

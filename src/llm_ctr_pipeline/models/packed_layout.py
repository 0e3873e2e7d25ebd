"""The packed sequence: one prompt, then the rows.

The packed sequence is `⟦prompt | row 1 | row 2 | … | row B⟧`. Prompt tokens attend causally to
each other; a row's tokens attend to the whole prompt and causally to their own row. That is what
`B` sequences `⟦prompt | row⟧` compute, without computing the prompt `B` times.

Shape legend: B rows, P prompt tokens, T tokens a row, N = P + B·T packed tokens, Q query heads,
K key/value heads, C channels a head.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

QueryKeyValue = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class PackedLayout:
    """Where the prompt and the rows lie in the packed sequence, and what a row sees of it.

    Attributes:
        prompt_length: Prompt tokens P, at least 1.
        row_length: Tokens a row T.
        rows: Rows B.
    """

    prompt_length: int
    row_length: int
    rows: int

    @property
    def context_length(self) -> int:
        """Tokens of the prompt and of one row, P + T."""
        return self.prompt_length + self.row_length

    @property
    def packed_length(self) -> int:
        """Tokens in all, N."""
        return self.prompt_length + self.rows * self.row_length

    def positions(self, device: torch.device) -> Tensor:
        """Count 0…P−1 over the prompt and P…P+T−1 over every row, int64 `[1, N]`."""
        prompt_P = torch.arange(self.prompt_length, device=device)
        row_T = torch.arange(self.prompt_length, self.context_length, device=device)
        return torch.cat([prompt_P, row_T.repeat(self.rows)])[None]

    def visible(self, device: torch.device) -> Tensor:
        """Tell what a row's tokens see of the prompt and of their row, bool `[T, P+T]`."""
        shape = (self.row_length, self.context_length)
        return torch.ones(shape, dtype=torch.bool, device=device).tril(self.prompt_length)

    def split(
        self, query: Tensor, key: Tensor, value: Tensor
    ) -> tuple[QueryKeyValue, QueryKeyValue]:
        """Split what attends into the prompt, a batch of one, and the rows, a batch of B.

        Args:
            query: Float, `[1, Q, N, C]`.
            key: Float, `[1, K, N, C]`.
            value: Float, `[1, K, N, C]`.

        Returns:
            Query, key and value of the prompt, `[1, heads, P, C]`, and of the rows, which see the
            prompt too: query `[B, Q, T, C]`, key and value `[B, K, P+T, C]`.
        """
        prompt = slice(0, self.prompt_length)
        return (
            (query[:, :, prompt], key[:, :, prompt], value[:, :, prompt]),
            (self._rows_of(query), self.seen_by_rows(key), self.seen_by_rows(value)),
        )

    def seen_by_rows(self, packed_1KNC: Tensor) -> Tensor:
        """Return the keys or values that each row sees, the prompt's first, `[B, K, P+T, C]`."""
        prompt_1KPC = packed_1KNC[:, :, : self.prompt_length]
        prompt_BKPC = prompt_1KPC.expand(self.rows, -1, -1, -1)
        return torch.cat([prompt_BKPC, self._rows_of(packed_1KNC)], dim=2)

    def _rows_of(self, packed_1HNC: Tensor) -> Tensor:
        """Return the rows' part of a packed tensor as a batch, `[B, heads, T, C]`."""
        heads, channels = packed_1HNC.shape[1], packed_1HNC.shape[3]
        rows = packed_1HNC[0, :, self.prompt_length :]
        return rows.view(heads, self.rows, self.row_length, channels).transpose(0, 1)

    def pack(self, prompt_1PQC: Tensor, rows_BTQC: Tensor) -> Tensor:
        """Pack what was attended for the prompt and for the rows, `[1, N, Q, C]`."""
        return torch.cat([prompt_1PQC, rows_BTQC.reshape(1, -1, *rows_BTQC.shape[2:])], dim=1)

    def last_tokens(self, packed: Any) -> Any:
        """Return each row's last token, `[1, B, …]`, of a tensor `[1, N, …]` or of several."""
        if isinstance(packed, tuple):
            return tuple(self.last_tokens(part) for part in packed)
        return packed[:, self.context_length - 1 :: self.row_length]

    def put_back(self, last_1BH: Tensor) -> Tensor:
        """Give hidden states of the last tokens, `[1, B, H]`, the packed length, `[1, N, H]`."""
        packed_1NH = last_1BH.new_zeros(1, self.packed_length, last_1BH.shape[-1])
        self.last_tokens(packed_1NH).copy_(last_1BH)
        return packed_1NH

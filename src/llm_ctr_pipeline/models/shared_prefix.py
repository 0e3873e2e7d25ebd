"""Exact attention over one packed sequence with a shared prompt.

`transformers` calls `shared_prefix_attention` in every layer of a model whose attention
implementation is set to `SHARED_PREFIX`; no model code is changed. What is to attend comes with the
forward call: a `PackedAttention`, which dispatches to a kernel, or what the last layer puts in its
place.

Shape legend: B rows, P prompt tokens, T tokens a row, N = P + B·T packed tokens, Q query heads,
K key/value heads, G = Q/K · T folded queries, L keys, C channels a head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers import AttentionInterface

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.models.packed_layout import PackedLayout

SHARED_PREFIX = "shared_prefix"
# Tokens of a block of FlexAttention's mask, its default.
BLOCK = 128
# More than a run has, were FlexAttention compiled for each: usual and odd passes of some stages.
LENGTHS_COMPILED = 64


class UnsupportedModelError(RefusedError, NotImplementedError):
    """A language model does something that the decoder does not reproduce."""


class Layout(Protocol):
    """How the tokens lie that the layers compute."""

    @property
    def prompt_length(self) -> int:
        """Prompt tokens P."""

    @property
    def row_length(self) -> int:
        """Tokens a row T."""

    @property
    def context_length(self) -> int:
        """Tokens of the prompt and of one row, P + T."""

    def last_tokens(self, tokens: Any) -> Any:
        """Return each row's last token, `[1, B, …]`, of all tokens or of several such tensors."""

    def put_back(self, last_1BH: Tensor) -> Tensor:
        """Give hidden states of the last tokens the length of all tokens."""


class Attention(Protocol):
    """What the forward call hands down to the layers: how their queries attend."""

    @property
    def layout(self) -> Layout:
        """How the tokens lie that the queries, keys and values are of."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attend; query `[b, Q, n, C]`, key and value `[b, K, n, C]`, result `[b, n, Q, C]`."""


class WholeAttention(Attention, Protocol):
    """How the queries of all tokens attend."""

    def seen_by_rows(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values that each row sees, `[B, K, P+T, C]`, of all tokens'."""


@dataclass(frozen=True)
class PackedAttention:
    """Attends within the packed sequence by the kernel chosen.

    Attributes:
        layout: The packed sequence.
        kernel: A key of `KERNELS`.
    """

    layout: PackedLayout
    kernel: str

    def seen_by_rows(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Repeat the prompt's keys and values, `[1, K, N, C]`, for each row: `[B, K, P+T, C]`."""
        return self.layout.seen_by_rows(key), self.layout.seen_by_rows(value)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attend from all tokens, float `[1, N, Q, C]`."""
        return KERNELS[self.kernel](query, key, value, scaling, self.layout)


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    shared_prefix: Attention | None = None,
    **options: object,
) -> tuple[Tensor, None]:
    """Attend within a packed sequence; the signature is transformers' `AttentionInterface`.

    Args:
        module: The attention layer.
        query: Float, `[1, Q, N, C]`.
        key: Float, `[1, K, N, C]`, K dividing Q.
        value: Float, `[1, K, N, C]`.
        attention_mask: Unused: the layout says what attends to what.
        scaling: Factor of the scores; 1/√C when None.
        dropout: Must be 0.
        shared_prefix: How to attend, from the forward call's keywords.
        options: What else the layer passes; refused where it would change the result.

    Returns:
        Float, `[1, N, Q, C]`, and None in place of the attention weights.

    Raises:
        UnsupportedModelError: The layer needs something that the kernels do not compute.
    """
    if shared_prefix is None:
        raise UnsupportedModelError(
            f"{type(module).__name__} does not pass keywords of the forward call on to its "
            "attention: this architecture cannot run with a shared prefix"
        )
    _refuse_unsupported(options, shared_prefix.layout, dropout)
    query, key, value = _common_dtype((query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return shared_prefix.attend(query, key, value, scale), None


def _refuse_unsupported(options: dict[str, object], layout: Layout, dropout: float) -> None:
    """Raise for what a layer asks of its attention and the kernels here do not compute."""
    window = options.get("sliding_window")
    if isinstance(window, int) and window < layout.context_length:
        raise UnsupportedModelError(
            f"the language model's sliding window of {window} tokens is shorter than prompt and "
            f"row ({layout.prompt_length} + {layout.row_length}): shorten the prompt"
        )
    for name in ("softcap", "s_aux"):
        if options.get(name) is not None:
            raise UnsupportedModelError(
                f"the language model's attention uses {name}, which the shared prefix does not "
                "compute: choose a model without it, such as Qwen3 or Llama"
            )
    if dropout > 0:
        raise UnsupportedModelError(
            "the shared prefix has no attention dropout: set the model's attention_dropout to 0"
        )


def _common_dtype(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Bring query, key and value to autocast's dtype.

    Under autocast the float32 weights of a query norm promote what they touch, so the three can
    arrive with different dtypes.
    """
    device_type = tensors[0].device.type
    if not torch.is_autocast_enabled(device_type):
        return tensors
    dtype = torch.get_autocast_dtype(device_type)
    return tuple(tensor.to(dtype) for tensor in tensors)


def _sdpa(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, layout: PackedLayout
) -> Tensor:
    """Attend by PyTorch's scaled dot product: the prompt causally, the rows as a batch."""
    prompt, rows = layout.split(query, key, value)
    grouped = query.shape[1] != key.shape[1]
    prompt_1QPC = F.scaled_dot_product_attention(
        *prompt, is_causal=True, scale=scaling, enable_gqa=grouped
    )
    rows_BQTC = sdpa_grouped(*rows, scaling, layout.visible(query.device))
    return layout.pack(prompt_1QPC.transpose(1, 2), rows_BQTC.transpose(1, 2))


def sdpa_grouped(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, visible: Tensor | None
) -> Tensor:
    """Attend by PyTorch's scaled dot product, several query heads to a key/value head.

    The query heads of a group are laid behind each other as more queries of one head: no kernel
    then has to know of groups, and keys and values are not repeated for them.

    Args:
        query: Float, `[B, Q, T, C]`.
        key: Float, `[B, K, L, C]`, K dividing Q.
        value: Float, `[B, K, L, C]`; C may differ from the queries' and keys'.
        scaling: Factor of the scores.
        visible: Which keys each query sees, bool `[T, L]`; all where None.

    Returns:
        Float, `[B, Q, T, C]`, C as in the values.
    """
    groups = query.shape[1] // key.shape[1]
    folded_BKGC = query.reshape(*key.shape[:2], groups * query.shape[2], query.shape[3])
    mask = None if visible is None else visible.repeat(groups, 1)
    attended_BKGC = F.scaled_dot_product_attention(
        folded_BKGC, key, value, attn_mask=mask, scale=scaling
    )
    return attended_BKGC.reshape(*query.shape[:3], value.shape[3])


def _flash_attention_2(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, layout: PackedLayout
) -> Tensor:
    """Attend by the flash-attn package; its `causal` is aligned bottom-right since version 2.1."""
    if query.shape[3] != value.shape[3]:  # latent attention, which the package does not compute
        return _sdpa(query, key, value, scaling, layout)
    from flash_attn import flash_attn_func

    prompt_1PQC, rows_BTQC = [
        flash_attn_func(
            *[part.transpose(1, 2) for part in qkv],
            softmax_scale=scaling,
            causal=True,
            deterministic=torch.are_deterministic_algorithms_enabled(),
        )
        for qkv in layout.split(query, key, value)
    ]
    return layout.pack(prompt_1PQC, rows_BTQC)


def _flex_attention(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, layout: PackedLayout
) -> Tensor:
    """Attend by FlexAttention, over the packed sequence as a whole."""
    shape = layout.prompt_length, layout.row_length, layout.rows, str(query.device)
    compiling = torch.compiler.is_compiling()
    # Within a compiled model both are compiled along; a cache would be ignored, with a warning.
    mask = _make_block_mask(*shape) if compiling else _block_mask(*shape)
    attend = cast("Callable[..., Any]", flex_attention)
    # Only CUDA has a compiled backward pass; elsewhere the unfused reference runs.
    if query.is_cuda and not compiling:
        attend = _compiled_flex_attention()
    grouped = query.shape[1] != key.shape[1]
    out_1QNC: Tensor = attend(query, key, value, block_mask=mask, scale=scaling, enable_gqa=grouped)
    return out_1QNC.transpose(1, 2)


def _make_block_mask(prompt_length: int, row_length: int, rows: int, device: str) -> BlockMask:
    """Build FlexAttention's mask of the packed sequence.

    `create_block_mask` would find the blocks by trying all N² pairs of tokens.
    """

    def visible(_batch: Tensor, _head: Tensor, query_at: Tensor, key_at: Tensor) -> Tensor:
        query_row = (query_at - prompt_length) // row_length
        key_row = (key_at - prompt_length) // row_length
        return (key_at <= query_at) & ((key_at < prompt_length) | (key_row == query_row))

    length = prompt_length + rows * row_length
    # The first batch may be a validation's, whose tensors could not be kept for a backward pass.
    with torch.inference_mode(False):
        first_q = torch.arange(0, length, BLOCK, device=device)[:, None]
        first_k = first_q.T
        # If any query of a block sees any key of another, the first sees the first or the last.
        seen = visible(first_q, first_q, first_q, first_k)
        seen |= visible(first_q, first_q, first_q, first_k + BLOCK - 1)
        order = seen.int().argsort(dim=1, descending=True, stable=True).int()
        return BlockMask.from_kv_blocks(
            seen.sum(1, dtype=torch.int32)[None, None],
            order[None, None],
            BLOCK_SIZE=BLOCK,
            mask_mod=visible,
            seq_lengths=(length, length),
        )


_block_mask = lru_cache(maxsize=8)(_make_block_mask)


@lru_cache(maxsize=1)
def _compiled_flex_attention() -> Callable[..., Any]:
    # Whole or not at all: uncompiled it would build all N² scores. Lengths differ from batch to
    # batch; beyond PyTorch's limit of 8 it would go on uncompiled, with a warning alone.
    compiled: Callable[..., Any] = torch.compile(flex_attention, fullgraph=True)
    limited: Callable[..., Any] = torch._dynamo.config.patch(recompile_limit=LENGTHS_COMPILED)(
        compiled
    )
    return limited


KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor, float, PackedLayout], Tensor]] = {
    "sdpa": _sdpa,
    "flash_attention_2": _flash_attention_2,
    "flex_attention": _flex_attention,
}

# No mask function is registered beside it: transformers then builds no mask at all.
AttentionInterface.register(SHARED_PREFIX, shared_prefix_attention)

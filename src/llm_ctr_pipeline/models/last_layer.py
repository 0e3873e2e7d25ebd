"""The last decoder layer, computed for the last token of each row alone.

The answer is read off the last token of each row, so of what the last layer gives all other tokens
nothing is used: there they matter through their keys and values alone. In a model of two layers,
the rest of the last layer's work on them is a third of all.

The layer's own code runs, whatever its architecture: once on all tokens, as far as their keys and
values, and once on the last tokens, attending to those.

Shape legend: B rows, P prompt tokens, T tokens a row, N = P + B·T packed tokens, H hidden size,
Q query heads, K key/value heads, C channels a head.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_ctr_pipeline.models.shared_prefix import (
    Layout,
    UnsupportedModelError,
    WholeAttention,
    sdpa_grouped,
)


class _KeysKnownError(Exception):
    """Leaves a layer as soon as its keys and values are known; carries them in `args`."""


@dataclass(frozen=True)
class _KeyCapture:
    """Takes a layer's keys and values instead of attending."""

    layout: Layout
    known: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, _scaling: float) -> Tensor:
        if not torch.compiler.is_exporting():
            raise _KeysKnownError(key, value)
        # What traces a model's calls cannot be left half-way; it drops what nothing comes of.
        self.known.append((key, value))
        return query.new_zeros(*query.transpose(1, 2).shape[:3], value.shape[3])


@dataclass(frozen=True)
class _LastTokenAttention:
    """Attends from the last token of each row to the prompt and all of its row."""

    layout: Layout
    key_BKLC: Tensor
    value_BKLC: Tensor

    def attend(self, query: Tensor, _key: Tensor, _value: Tensor, scaling: float) -> Tensor:
        attended_BQ1C = sdpa_grouped(
            query[0].transpose(0, 1)[:, :, None],
            self.key_BKLC,
            self.value_BKLC,
            scaling,
            visible=None,
        )
        return attended_BQ1C.permute(2, 0, 1, 3)


def compute_last_tokens_only(backbone: PreTrainedModel) -> None:
    """Make a model's last decoder layer compute the last tokens alone.

    From then on a forward call over a packed sequence gives hidden states `[1, N, H]` of which
    those of the last tokens mean something.

    Raises:
        UnsupportedModelError: The model has no list of decoder layers.
    """
    last = decoder_layers(backbone)[-1]
    last.register_forward_pre_hook(_keep_last_tokens, with_kwargs=True)
    last.register_forward_hook(_put_back, with_kwargs=True)


def decoder_layers(backbone: PreTrainedModel) -> nn.ModuleList:
    """Return the decoder layers of a model, in order.

    Raises:
        UnsupportedModelError: The model has no list of decoder layers.
    """
    depth = backbone.config.num_hidden_layers
    stacks = [m for m in backbone.children() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if len(stacks) != 1:
        raise UnsupportedModelError(
            f"{type(backbone).__name__} has no list of {depth} decoder layers: choose another "
            "model, such as Qwen3 or Llama"
        )
    return stacks[0]


def _keep_last_tokens(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Replace a layer's input, all tokens, by the last token of each row."""
    whole: WholeAttention | None = kwargs.get("shared_prefix")
    if whole is None:
        raise UnsupportedModelError(
            f"{type(layer).__name__} gets no keywords of the forward call: this architecture "
            "cannot run with a shared prefix"
        )
    layout = whole.layout
    seen = whole.seen_by_rows(*keys_and_values(layer, args, kwargs))
    last = {
        name: layout.last_tokens(kwargs[name])
        for name in ("hidden_states", "position_ids", "position_embeddings")
        if kwargs.get(name) is not None
    }
    hidden = layout.last_tokens(args[:1])
    attention = _LastTokenAttention(layout, *seen)
    return (*hidden, *args[1:]), {**kwargs, **last, "shared_prefix": attention}


def keys_and_values(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Run a decoder layer as far as its keys and values.

    Args:
        layer: One of `decoder_layers`.
        args: What it is called with.
        kwargs: The same, by names; `shared_prefix` is a `WholeAttention`.

    Returns:
        Keys and values of the tokens given, float `[…, K, n, C]`.

    Raises:
        UnsupportedModelError: The layer does not attend through transformers' interface.
    """
    capture = _KeyCapture(kwargs["shared_prefix"].layout)
    try:
        layer.forward(*args, **{**kwargs, "shared_prefix": capture})
    except _KeysKnownError as known:
        key, value = known.args
        return key, value
    if capture.known:
        return capture.known[0]
    raise UnsupportedModelError(
        f"{type(layer).__name__} does not attend through transformers' attention interface: "
        "this architecture cannot run with a shared prefix"
    )


def _put_back(
    _layer: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
) -> Tensor:
    """Give the output the length that the model's code behind the layer may count on."""
    return kwargs["shared_prefix"].layout.put_back(output)  # type: ignore[no-any-return]

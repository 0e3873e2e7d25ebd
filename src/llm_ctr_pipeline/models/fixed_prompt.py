"""The end-to-end model with constant weights: the prompt is computed once, when it is made.

While a model trains, keys and values kept from the step before would be stale. A model that is
served has constant weights: the prompt's keys and values of every layer are constant too, and a
call computes the rows' tokens alone. They attend to the kept keys and values and causally to their
own row, which is what `LlmCtr` computes, without the prompt.

Shape legend: B rows, F fields, P prompt tokens, S suffix tokens, T = F + S tokens a row,
H hidden size, Q query heads, K key/value heads, L keys, C channels a head.
"""

import copy
import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from llm_ctr_pipeline.data.errors import SettingsError, first_line
from llm_ctr_pipeline.models.last_layer import decoder_layers, keys_and_values
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
from llm_ctr_pipeline.models.settings import ServingPrecision
from llm_ctr_pipeline.models.shared_prefix import sdpa_grouped

logger = logging.getLogger(__name__)

PROBED_ROWS = 3
TOLERANCE = 1e-4  # of the largest log-odds


@dataclass(frozen=True)
class RowsLayout:
    """Rows as a batch, `[B, T, …]`; the prompt before them is known.

    Attributes:
        prompt_length: Prompt tokens P.
        row_length: Tokens a row T.
    """

    prompt_length: int
    row_length: int

    @property
    def context_length(self) -> int:
        """Tokens of the prompt and of one row, P + T."""
        return self.prompt_length + self.row_length

    def last_tokens(self, tokens: Any) -> Any:
        """Return each row's last token, `[1, B, …]`, of a tensor `[B, T, …]` or of several.

        What all rows have in common, `[1, T, …]`, becomes `[1, 1, …]`.
        """
        if isinstance(tokens, tuple):
            return tuple(self.last_tokens(part) for part in tokens)
        return tokens[:, -1][None]

    def put_back(self, last_1BH: Tensor) -> Tensor:
        """Give hidden states of the last tokens, `[1, B, H]`, all rows' length, `[B, T, H]`."""
        return last_1BH[0][:, None].expand(-1, self.row_length, -1)


@dataclass(frozen=True)
class FixedPromptAttention:
    """Attends from rows to the kept prompt and causally within each row.

    Attributes:
        layout: How the tokens lie.
        prompts: The prompt's keys and values of each layer, float `[1, K, P, C]`.
        visible_TL: What a row's tokens see of the prompt and of their row, bool `[T, P+T]`.
        layer: Which layer attends.
    """

    layout: RowsLayout
    prompts: tuple[tuple[Tensor, Tensor], ...]
    visible_TL: Tensor
    layer: int = 0

    def seen_by_rows(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Put the prompt's keys and values before the rows', `[B, K, T, C]`."""
        own = (key, value)
        seen_key, seen_value = (
            torch.cat([prompt_1KPC.expand(rows.shape[0], -1, -1, -1), rows], dim=2)
            for prompt_1KPC, rows in zip(self.prompts[self.layer], own, strict=True)
        )
        return seen_key, seen_value

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attend from all rows' tokens: query `[B, Q, T, C]`, result `[B, T, Q, C]`."""
        seen = self.seen_by_rows(key, value)
        return sdpa_grouped(query, *seen, scaling, self.visible_TL).transpose(1, 2).contiguous()


class FixedPromptDecoder(nn.Module):
    """A trained decoder that computes the rows' tokens alone.

    Args:
        decoder: The decoder, whose weights stay as they are from now on. Its layers get a hook
            that does nothing in the decoder's own forward.
        fields: Feature tokens F that a row has.
    """

    positions_1T: Tensor
    visible_TL: Tensor

    def __init__(self, decoder: LlmDecoder, fields: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.dtype = torch.float32
        self.layout = RowsLayout(len(decoder.tokens.prompt), fields + len(decoder.tokens.suffix))
        prompt, context = self.layout.prompt_length, self.layout.context_length
        device = decoder.prompt_P.device
        self._keep("positions_1T", torch.arange(prompt, context, device=device)[None])
        visible_TL = torch.ones(context - prompt, context, dtype=torch.bool, device=device)
        self._keep("visible_TL", visible_TL.tril(prompt))
        self.prompts = nn.ModuleList(_keep_prompt(decoder, fields))
        for number, layer in enumerate(decoder_layers(decoder.backbone)):
            # Before what leaves the last layer nothing but the last tokens.
            hook = partial(_attend_in_layer, number)
            layer.register_forward_pre_hook(hook, with_kwargs=True, prepend=True)

    def _keep(self, name: str, tensor: Tensor) -> None:
        """Let a constant go with the module to a device, and into no checkpoint."""
        self.register_buffer(name, tensor, persistent=False)

    def lowered(self, precision: ServingPrecision) -> "FixedPromptDecoder":
        """Return the decoder in another precision, with weights of its own, or itself.

        Args:
            precision: See `FixedPromptCtr`.
        """
        if precision == "32-true":
            return self
        low = copy.deepcopy(self)
        # They may be rows of the input embedding, and the click is in their difference.
        low.decoder.answer_rows = nn.Parameter(low.decoder.answer_vectors().detach().clone())
        if precision == "bf16":
            low.dtype = torch.bfloat16
            low.decoder.backbone.to(low.dtype)
            low.prompts.to(low.dtype)
            return low
        if self.visible_TL.device.type != "cpu":
            raise SettingsError("precision int8 runs on the CPU alone: choose bf16 on a GPU")
        with warnings.catch_warnings():
            # It is to move to torchao, which has no kernels for most CPUs.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message="torch.quantize_per_tensor")
            quantize: Any = torch.ao.quantization.quantize_dynamic
            low.decoder.backbone = quantize(low.decoder.backbone, {nn.Linear}, inplace=True)
        return low

    def forward(self, features_BFH: Tensor) -> Tensor:
        """Compute logits of "0" and "1", float32 `[B, 2]`, from feature tokens, `[B, F, H]`."""
        kept = cast("Iterable[KeptPrompt]", self.prompts)
        prompts = tuple((layer.key_1KPC, layer.value_1KPC) for layer in kept)
        hidden_BTH = self.decoder.backbone(
            inputs_embeds=self.decoder.with_suffix(features_BFH.to(self.dtype)),
            position_ids=self.positions_1T,
            use_cache=False,
            shared_prefix=FixedPromptAttention(self.layout, prompts, self.visible_TL),
        ).last_hidden_state
        return self.decoder.answer(hidden_BTH[:, -1])


class KeptPrompt(nn.Module):
    """The prompt's keys and values of one layer, float `[1, K, P, C]`."""

    key_1KPC: Tensor
    value_1KPC: Tensor

    def __init__(self, key_1KPC: Tensor, value_1KPC: Tensor) -> None:
        super().__init__()
        self.register_buffer("key_1KPC", key_1KPC.contiguous(), persistent=False)
        self.register_buffer("value_1KPC", value_1KPC.contiguous(), persistent=False)


class FixedPromptCtr(nn.Module):
    """`LlmCtr` with constant weights, for serving.

    Equal to the model's own forward but for the order of floating-point additions. Where a
    language model's code does not run on rows without their prompt, or gives other log-odds, the
    model's own forward is called instead, and the log says so.

    Args:
        model: A trained model, which is put in evaluation mode. Its weights are shared, so they
            must not change from now on.
        precision: Of the language model: `32-true` as trained, `bf16` with weights and arithmetic
            in bfloat16, `int8` with linear layers of int8 weights whose inputs are quantised as
            they come (on the CPU alone). All other parts and the answers stay in float32.

    Attributes:
        fixed: Whether the prompt is not computed again.

    Raises:
        SettingsError: There is no int8 on the model's device.
    """

    def __init__(self, model: LlmCtr, precision: ServingPrecision = "32-true") -> None:
        super().__init__()
        self.field_sizes = model.field_sizes
        self.model = model.eval()
        with torch.no_grad():
            objection = self._fix_prompt(model, precision)
            self.fixed = objection is None
            if objection is not None:
                logger.warning(
                    "The prompt is computed with each call, in float32: %s cannot do without (%s)",
                    type(model.llm.backbone).__name__,
                    objection,
                )
        self.eval()

    def _fix_prompt(self, model: LlmCtr, precision: ServingPrecision) -> str | None:
        """Take the fixed prompt if it gives what the model gives; else say what it did."""
        device = model.llm.prompt_P.device
        ids_BF = torch.zeros(PROBED_ROWS, len(self.field_sizes), dtype=torch.int64, device=device)
        for row in range(PROBED_ROWS):  # of known ids too
            ids_BF[row] = torch.tensor([min(row, size - 1) for size in self.field_sizes])
        expected_B = model(ids_BF)
        try:
            decoder = FixedPromptDecoder(model.llm, len(self.field_sizes))
            found_B = _with_decoder(model, decoder)(ids_BF)
        except Exception as error:
            # The code that ran is transformers', of any architecture: it can raise anything.
            return f"{type(error).__name__}: {first_line(error)}"
        if not torch.allclose(found_B, expected_B, rtol=TOLERANCE, atol=TOLERANCE):
            return f"log-odds {found_B.tolist()} instead of {expected_B.tolist()}"
        self.model = _with_decoder(model, decoder.lowered(precision))
        return None

    def forward(self, ids_BF: Tensor) -> Tensor:
        """Compute the log-odds of a click, float32 `[B]`.

        Args:
            ids_BF: Ids within each field, int32 or int64, `[B, F]`.
        """
        log_odds_B: Tensor = self.model(ids_BF)
        return log_odds_B


def _with_decoder(model: LlmCtr, decoder: FixedPromptDecoder) -> LlmCtr:
    """Return a model that shares all parts but its decoder."""
    other = copy.copy(model)
    other._modules = {**model._modules, "llm": decoder}
    return other


def _keep_prompt(decoder: LlmDecoder, fields: int) -> list[KeptPrompt]:
    """Run a decoder on one row, of which the prompt knows nothing, and keep the prompt's part."""
    prompt = slice(0, len(decoder.tokens.prompt))
    kept: list[KeptPrompt] = []

    def keep(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        key, value = keys_and_values(layer, args, kwargs)
        kept.append(KeptPrompt(key[:, :, prompt], value[:, :, prompt]))

    layers = decoder_layers(decoder.backbone)
    # Before what leaves the last layer nothing but the last tokens.
    handles = [
        layer.register_forward_pre_hook(keep, with_kwargs=True, prepend=True) for layer in layers
    ]
    try:
        embedding = decoder.backbone.get_input_embeddings().weight
        decoder(embedding.new_zeros(1, fields, embedding.shape[1]))
    finally:
        for handle in handles:
            handle.remove()
    return kept


def _attend_in_layer(
    number: int, _layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Tell a fixed prompt's attention which layer it is in."""
    attention = kwargs.get("shared_prefix")
    if not isinstance(attention, FixedPromptAttention):
        return None
    return args, {**kwargs, "shared_prefix": replace(attention, layer=number)}

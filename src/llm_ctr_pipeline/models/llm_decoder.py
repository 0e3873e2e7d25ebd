"""The language model as decoder: feature tokens in, logits of the two answers out.

Shape legend: B rows, F feature tokens, H hidden size, P prompt tokens, S suffix tokens,
T = F + S tokens a row, N = P + B·T packed tokens, U vocabulary rows in use.
"""

import json
from bisect import bisect_left
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.models.acceptance.comparison import (
    check_answers,
    own_answers,
    refusing,
    stirred,
)
from llm_ctr_pipeline.models.acceptance.configuration import check_context
from llm_ctr_pipeline.models.last_layer import compute_last_tokens_only, decoder_layers
from llm_ctr_pipeline.models.packed_layout import PackedLayout
from llm_ctr_pipeline.models.prompt import PromptTokens
from llm_ctr_pipeline.models.shared_prefix import SHARED_PREFIX, PackedAttention


class LlmDecoder(nn.Module):
    """A Hugging Face causal language model over `⟦prompt | feature tokens | suffix⟧`.

    The prompt is computed once a forward call for all rows (see `shared_prefix`), and always from
    the current weights. Only the vocabulary rows in use are parameters, and only the last hidden
    state of each row meets only the two answer rows of the output matrix.

    Args:
        backbone: The model without its output layer; its input embedding has U rows.
        tokens: The fixed text, in ids of the model's whole vocabulary.
        answer_rows: The output matrix's rows of "0" and "1", `[2, H]`; None where the model ties
            them to its input embedding.
        answer_bias: The output layer's bias for the two, `[2]`, if it has one.

    Attributes:
        kernel: A key of `shared_prefix.KERNELS`.
    """

    prompt_P: Tensor
    suffix_S: Tensor
    answers_2: Tensor

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokens: PromptTokens,
        answer_rows: Tensor | None = None,
        answer_bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.backbone.set_attn_implementation(SHARED_PREFIX)
        compute_last_tokens_only(self.backbone)
        self.tokens = tokens
        self.answer_rows = None if answer_rows is None else nn.Parameter(answer_rows.clone())
        self.answer_bias = None if answer_bias is None else nn.Parameter(answer_bias.clone())
        self.kernel = "sdpa"
        # What some architectures do to their logits, by their configurations' names for it.
        config = backbone.config
        self.logit_scale = getattr(config, "logit_scale", None) or 1.0
        self.logit_scale /= getattr(config, "logits_scaling", None) or 1.0
        self.logit_cap: float | None = getattr(config, "final_logit_softcapping", None)
        for name, ids in (
            ("prompt_P", tokens.prompt),
            ("suffix_S", tokens.suffix),
            ("answers_2", tokens.answers),
        ):
            rows = [bisect_left(tokens.used, token) for token in ids]
            self.register_buffer(name, torch.tensor(rows, dtype=torch.long), persistent=False)

    @classmethod
    def from_causal_lm(
        cls, causal_lm: PreTrainedModel, tokens: PromptTokens, fields: int = 3
    ) -> Self:
        """Take over a causal language model, keeping the vocabulary rows in use.

        The model given is consumed: its input embedding is replaced.

        Args:
            causal_lm: The model, in float32 on the CPU.
            tokens: The fixed text.
            fields: Feature tokens F that a row will have.

        Raises:
            UnsupportedModelError: The model is not computed as it would compute by itself.
            SettingsError: The tokens are of another model.
        """
        name, answers = type(causal_lm).__name__, list(tokens.answers)
        context = len(tokens.prompt) + fields + len(tokens.suffix)
        check_context(causal_lm.config, context)
        with refusing(name):
            embedding = causal_lm.get_input_embeddings()
            output = causal_lm.get_output_embeddings()
            whole, bias = embedding.weight, getattr(output, "bias", None)
            _check_vocabulary(len(whole), tokens)
            with stirred(causal_lm):
                expected = own_answers(causal_lm, tokens, fields)
                _keep_rows(embedding, tokens.used)
                answer_rows = None if output.weight is whole else output.weight[answers]
                answer_bias = None if bias is None else bias[answers]
                decoder = cls(causal_lm.base_model, tokens, answer_rows, answer_bias)
                check_answers(decoder, expected, name)
            # What was cut out of the stirred weights.
            with torch.no_grad():
                embedding.weight.copy_(whole[list(tokens.used)])
                if decoder.answer_rows is not None:
                    decoder.answer_rows.copy_(output.weight[answers])
                if decoder.answer_bias is not None and bias is not None:
                    decoder.answer_bias.copy_(bias[answers])
        return decoder.train()

    def describe(self) -> "LlmDescription":
        """Describe the decoder, without its weights."""
        config = json.loads(self.backbone.config.to_json_string(use_diff=False))
        # Where the pretrained weights lay on the machine that trained says nothing elsewhere.
        config.pop("_name_or_path", None)
        return LlmDescription(
            config=config,
            tokens=self.tokens,
            tied=self.answer_rows is None,
            bias=self.answer_bias is not None,
        )

    def recompute_layers(self, *, on: bool) -> None:
        """Let all layers but the last keep their input alone and compute the rest again.

        The last one computes little, and what leaves it half-way (see `last_layer`) cannot be
        compiled within a part that is computed again.
        """
        # transformers renames gradient_checkpointing_* to activation_checkpointing_*.
        renamed = hasattr(self.backbone, "activation_checkpointing_enable")
        prefix = "activation" if renamed else "gradient"
        if on:
            getattr(self.backbone, f"{prefix}_checkpointing_enable")({"use_reentrant": False})
            last = decoder_layers(self.backbone)[-1]
            last.gradient_checkpointing = False  # type: ignore[assignment]
        elif getattr(self.backbone, f"is_{prefix}_checkpointing"):
            getattr(self.backbone, f"{prefix}_checkpointing_disable")()

    def forward(self, features_BFH: Tensor) -> Tensor:
        """Read the prompt, then each row's feature tokens, and answer.

        Args:
            features_BFH: Projected feature tokens, float, `[B, F, H]`.

        Returns:
            Logits of "0" and "1", float32, `[B, 2]`.
        """
        row_BTH = self.with_suffix(features_BFH)
        prompt_PH = self.backbone.get_input_embeddings()(self.prompt_P).to(row_BTH.dtype)
        layout = PackedLayout(len(self.tokens.prompt), row_BTH.shape[1], row_BTH.shape[0])
        packed_1NH = torch.cat([prompt_PH, row_BTH.reshape(-1, row_BTH.shape[2])])[None]
        hidden_1NH = self.backbone(
            inputs_embeds=packed_1NH,
            position_ids=layout.positions(packed_1NH.device),
            use_cache=False,
            shared_prefix=PackedAttention(layout, self.kernel),
        ).last_hidden_state
        return self.answer(layout.last_tokens(hidden_1NH)[0])

    def with_suffix(self, features_BFH: Tensor) -> Tensor:
        """Put the suffix behind each row's feature tokens, float `[B, F, H]`: `[B, T, H]`."""
        if len(self.tokens.suffix) == 0:
            return features_BFH
        suffix_SH = self.backbone.get_input_embeddings()(self.suffix_S).to(features_BFH.dtype)
        return torch.cat([features_BFH, suffix_SH.expand(features_BFH.shape[0], -1, -1)], dim=1)

    def answer_vectors(self) -> Tensor:
        """The output matrix's rows of the two answers, float `[2, H]`."""
        if self.answer_rows is not None:
            return self.answer_rows
        rows_2H: Tensor = self.backbone.get_input_embeddings().weight[self.answers_2]
        return rows_2H

    def answer(self, last_BH: Tensor) -> Tensor:
        """Compute the two answers' logits, float32 `[B, 2]`, from the last hidden states."""
        rows_2H = self.answer_vectors()
        # Outside autocast: bfloat16 has steps of 1/8 at the size of a pretrained model's logits,
        # and the click is in their difference.
        with torch.autocast(last_BH.device.type, enabled=False):
            bias_2 = None if self.answer_bias is None else self.answer_bias.float()
            logits_B2 = F.linear(last_BH.float(), rows_2H.float(), bias_2) * self.logit_scale
            if self.logit_cap is None:
                return logits_B2
            return self.logit_cap * torch.tanh(logits_B2 / self.logit_cap)

    def write_into(self, causal_lm: PreTrainedModel) -> PreTrainedModel:
        """Put the trained weights back into a full causal language model of the same kind.

        Args:
            causal_lm: A model with its whole vocabulary, such as the pretrained one that training
                started from. Changed in place; vocabulary rows not in use keep their weights.

        Returns:
            `causal_lm`.
        """
        embedding = causal_lm.get_input_embeddings().weight
        output = causal_lm.get_output_embeddings()
        trimmed = self.backbone.get_input_embeddings().weight
        others = self.backbone.state_dict(keep_vars=True).items()
        causal_lm.base_model.load_state_dict(
            {name: weight for name, weight in others if weight is not trimmed}, strict=False
        )
        with torch.no_grad():
            embedding[list(self.tokens.used)] = trimmed.to(embedding)
            if self.answer_rows is not None:
                output.weight[list(self.tokens.answers)] = self.answer_rows.to(embedding)
            if self.answer_bias is not None:
                output.bias[list(self.tokens.answers)] = self.answer_bias.to(embedding)
        return causal_lm


class LlmDescription(Frozen):
    """All that builds the decoder again, but for its weights.

    Attributes:
        config: Configuration of the language model, by transformers' own names.
        tokens: The fixed text.
        tied: Whether the model ties its output matrix to its input embedding.
        bias: Whether its output layer has a bias.
    """

    config: dict[str, Any]
    tokens: PromptTokens
    tied: bool
    bias: bool

    def build(self) -> LlmDecoder:
        """Build the decoder's frame, with random weights."""
        config = self.trimmed_config()
        answer_rows = None if self.tied else torch.zeros(2, config.hidden_size)
        answer_bias = torch.zeros(2) if self.bias else None
        return LlmDecoder(AutoModel.from_config(config), self.tokens, answer_rows, answer_bias)

    def trimmed_config(self) -> PreTrainedConfig:
        """The language model's configuration, with the vocabulary rows in use alone."""
        config = AutoConfig.for_model(**self.config)
        config.vocab_size = len(self.tokens.used)
        # Special tokens index the whole vocabulary, of which the rows in use are left.
        config.pad_token_id = config.bos_token_id = config.eos_token_id = None
        return config


def _keep_rows(embedding: nn.Embedding, used: tuple[int, ...]) -> None:
    """Trim an input embedding in place, so that what its class does besides looking up stays."""
    embedding.weight = nn.Parameter(embedding.weight.detach()[list(used)].clone())
    embedding.num_embeddings = len(used)
    embedding.padding_idx = None


def _check_vocabulary(size: int, tokens: PromptTokens) -> None:
    """Refuse token ids that the model has no rows for."""
    if tokens.used[-1] >= size:
        raise SettingsError(
            f"the language model has {size} tokens and its tokenizer gives id {tokens.used[-1]}: "
            "the tokenizer is another model's, fetch both again"
        )

"""What a language model's configuration tells: what cannot be served, and what is switched off."""

import logging
from collections.abc import Iterator

from transformers import AutoModelForCausalLM, PreTrainedConfig

from llm_ctr_pipeline.models.shared_prefix import UnsupportedModelError

logger = logging.getLogger(__name__)

# Kinds of layers in which attention alone carries anything from token to token.
ATTENDING = {"full_attention", "sliding_attention", "chunked_attention"}
INSTEAD = "choose another model, such as Qwen3 or Llama"


def check_configuration(config: PreTrainedConfig) -> None:
    """Refuse a model that is known not to fit, before its weights are read.

    Raises:
        UnsupportedModelError: Names what does not fit, and what to choose instead.
    """
    reason = next(_obstacles(config), None)
    if reason is not None:
        raise UnsupportedModelError(
            f"a language model of type {config.model_type} cannot be used: {reason}"
        )


def _obstacles(config: PreTrainedConfig) -> Iterator[str]:
    """What does not fit, each with its cure."""
    if config.get_text_config() is not config:
        yield f"it reads more than text: choose its text model alone, or {INSTEAD}"
    # GPT-NeoX says is_decoder=False too; what can be either has a setting for cross-attention.
    either = hasattr(config, "add_cross_attention")
    encodes = either and getattr(config, "is_decoder", None) is False
    known = type(config) in AutoModelForCausalLM._model_mapping
    if encodes or config.is_encoder_decoder or not known:
        yield f"it is no decoder, which predicts the next token: {INSTEAD}"
    if getattr(config, "quantization_config", None) is not None:
        yield "its weights are quantised, and training needs them whole: choose it unquantised"
    kinds = sorted({*(getattr(config, "layer_types", None) or ())} - ATTENDING)
    if kinds:
        yield (
            f"it has layers of the kind {kinds[0]}, which mix tokens by more than plain attention, "
            f"so that rows would not be independent: {INSTEAD}"
        )
    for name in ("attn_logit_softcapping", "attention_logit_cap"):
        if getattr(config, name, None):
            yield f"it caps its attention scores ({name}), which no kernel here does: {INSTEAD}"
    if getattr(config, "alibi", False):
        yield f"its positions are biases of the attention scores (ALiBi): {INSTEAD}"


def check_context(config: PreTrainedConfig, length: int) -> None:
    """Refuse a context that the model cannot see as a whole.

    Args:
        config: The language model's.
        length: Tokens of prompt, fields and suffix.

    Raises:
        UnsupportedModelError: The context is longer than the model's positions or windows.
    """
    windowed = getattr(config, "use_sliding_window", True)
    kinds = getattr(config, "layer_types", None) or ("sliding_attention",)
    limits = {
        "positions": (getattr(config, "max_position_embeddings", None), True),
        "sliding window": (
            getattr(config, "sliding_window", None),
            windowed and "sliding_attention" in kinds,
        ),
        "attention chunks": (
            getattr(config, "attention_chunk_size", None),
            "chunked_attention" in kinds,
        ),
    }
    for name, (limit, applies) in limits.items():
        if applies and isinstance(limit, int) and 0 < limit < length:
            raise UnsupportedModelError(
                f"prompt, fields and suffix are {length} tokens, and the language model sees "
                f"{limit} at most ({name}): shorten the prompt, or choose another model"
            )


def switch_off_dropout(config: PreTrainedConfig) -> None:
    """Set to zero, with one warning, what a model would do at random in training.

    The prompt is computed once for all rows: one mask would be drawn for it where each row of its
    own forward draws one. Heads that are not used are left alone.
    """
    random = {
        name: value
        for name, value in config.to_dict().items()
        if any(word in name for word in ("dropout", "pdrop", "layerdrop", "jitter"))
        if not name.startswith(("summary", "classifier"))
        if isinstance(value, float) and value > 0
    }
    for name in random:
        setattr(config, name, 0.0)
    if random:
        values = ", ".join(f"{name}={value}" for name, value in random.items())
        logger.warning("The language model is trained without dropout; it came with %s", values)

"""Where the language model and its tokenizer come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llm_ctr_pipeline.data.errors import RefusedError, SettingsError
from llm_ctr_pipeline.models.prompt import build_small_tokenizer


@dataclass(frozen=True)
class LlmSource:
    """A pretrained language model, or a small one with random weights.

    Attributes:
        pretrained: Name on the Hugging Face hub (`Qwen/Qwen3-0.6B`) or a folder; None for a model
            with random weights.
        architecture: Configuration of the latter, `model_type` among its keys (`qwen3`, `llama`).
    """

    pretrained: str | None = None
    architecture: dict[str, Any] | None = None


class LlmNotFoundError(RefusedError, OSError):
    """The pretrained language model could not be loaded."""


def load_llm(
    source: LlmSource, text: str, seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model in float32 and its tokenizer.

    Args:
        source: What to load.
        text: Prompt and suffix; a small model gets a tokenizer made from it.
        seed: Seed of a small model's random weights.

    Raises:
        SettingsError: Neither a pretrained model nor an architecture is given.
        LlmNotFoundError: The pretrained model is neither a folder nor on a hub in reach.
    """
    if source.pretrained is not None:
        return _load_pretrained(source.pretrained)
    if source.architecture is None:
        raise SettingsError("llm.pretrained and llm.architecture are both null: set one of them")
    architecture = dict(source.architecture)
    vocab_size = architecture.pop("vocab_size")
    tokenizer = build_small_tokenizer(text, vocab_size)
    config = AutoConfig.for_model(
        **architecture,
        vocab_size=len(tokenizer),
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32), tokenizer


def _load_pretrained(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        # Master weights are float32; lower precision is autocast's part.
        causal_lm = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError) as error:
        place = "folder" if Path(name).is_dir() else "hub or folder"
        reason = str(error).strip().splitlines()[0]
        raise LlmNotFoundError(
            f"language model {name!r} could not be loaded from the {place} ({reason}): where the "
            f"hub is out of reach, fetch the model elsewhere (`hf download {name} --local-dir "
            "FOLDER`), copy the folder here and set llm.pretrained to it"
        ) from error
    return causal_lm, tokenizer

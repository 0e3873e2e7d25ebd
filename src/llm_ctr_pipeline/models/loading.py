"""Where the language model and its tokenizer come from."""

from pathlib import Path
from typing import cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.models.prompt import build_small_tokenizer
from llm_ctr_pipeline.models.settings import LlmSettings


class LlmNotFoundError(RefusedError, OSError):
    """The pretrained language model could not be loaded."""


def load_llm(
    source: LlmSettings, text: str, seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model in float32 and its tokenizer.

    Args:
        source: What to load.
        text: Prompt and suffix; a small model gets a tokenizer made from it.
        seed: Seed of a small model's random weights.

    Raises:
        LlmNotFoundError: The pretrained model is neither a folder nor on a hub in reach.
    """
    if source.architecture is None:
        # One of the two is set, which the settings check.
        return _load_pretrained(cast("str", source.pretrained))
    tokenizer = build_small_tokenizer(text, source.architecture.vocab_size)
    config = AutoConfig.for_model(
        **source.architecture.model_dump(exclude={"vocab_size"}),
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

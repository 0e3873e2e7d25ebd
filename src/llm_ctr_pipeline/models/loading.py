"""Where the language model and its tokenizer come from."""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llm_ctr_pipeline.data.errors import RefusedError, SettingsError
from llm_ctr_pipeline.models.acceptance.configuration import check_configuration, switch_off_dropout
from llm_ctr_pipeline.models.acceptance.files import check_files, check_weights
from llm_ctr_pipeline.models.prompt import build_small_tokenizer
from llm_ctr_pipeline.models.settings import ArchitectureSettings, LlmSettings

logger = logging.getLogger(__name__)

# Or transformers would ask at the terminal whether to run the code that comes with a model.
ITS_CODE = {"trust_remote_code": False}
OUT_OF_REACH = (
    "where the hub is out of reach, fetch the model elsewhere (`hf download {name} --local-dir "
    "FOLDER`), copy the folder here and set llm.pretrained to it"
)


class LlmNotFoundError(RefusedError, OSError):
    """The pretrained language model could not be loaded."""


def check_llm(source: LlmSettings) -> None:
    """Refuse a folder of which can be told without the weights that it is damaged or cannot fit.

    A model on the hub is looked at when it is loaded, one of an `architecture` when it is counted.

    Raises:
        LlmNotFoundError: The folder's configuration cannot be read.
        DamagedModelError: Files of it are missing or damaged.
        UnsupportedModelError: The configuration tells that it cannot be used.
    """
    if source.pretrained is not None and Path(source.pretrained).is_dir():
        _read_configuration(source.pretrained)


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
        DamagedModelError: Files or weights of it are missing or damaged.
        UnsupportedModelError: Its configuration tells that it cannot be used.
        SettingsError: The architecture's sizes do not go together.
    """
    if source.architecture is None:
        # One of the two is set, which the settings check.
        return _load_pretrained(cast("str", source.pretrained))
    tokenizer = build_small_tokenizer(text, source.architecture.vocab_size)
    config = configure(source.architecture, len(tokenizer))
    switch_off_dropout(config)
    torch.manual_seed(seed)
    with objections_to(source.architecture):
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32), tokenizer


def configure(architecture: ArchitectureSettings, vocab_size: int) -> PreTrainedConfig:
    """Make and check the configuration of a model with random weights.

    Raises:
        SettingsError: The architecture's sizes do not go together.
        UnsupportedModelError: It cannot be used.
    """
    with objections_to(architecture):
        config = AutoConfig.for_model(
            **architecture.model_dump(exclude={"vocab_size"}),
            vocab_size=vocab_size,
            pad_token_id=None,
            bos_token_id=None,
            eos_token_id=None,
        )
    check_configuration(config)
    return config


@contextmanager
def objections_to(architecture: ArchitectureSettings) -> Iterator[None]:
    """Turn what an architecture's own code objects to into a refusal."""
    try:
        yield
    except Exception as error:
        raise SettingsError(
            f"llm.architecture makes no language model of type {architecture.model_type} "
            f"({_in_one_line(error)}): set the sizes as it needs them, or model_type to qwen3"
        ) from error


def _read_configuration(name: str) -> PreTrainedConfig:
    """Read and check the configuration of a pretrained model, and a folder's files."""
    if Path(name).is_dir():
        check_files(Path(name))
    with _faults_of(name):
        config = AutoConfig.from_pretrained(name, **ITS_CODE)
    check_configuration(config)
    return config


def _load_pretrained(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    config = _read_configuration(name)
    switch_off_dropout(config)
    with _faults_of(name):
        tokenizer = AutoTokenizer.from_pretrained(name, **ITS_CODE)
        # Master weights are float32; lower precision is autocast's part.
        causal_lm, loaded = AutoModelForCausalLM.from_pretrained(
            name,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # or it would not say which
            **ITS_CODE,
        )
    resized = {key for key, *_ in loaded["mismatched_keys"]}
    check_weights(name, causal_lm, {*loaded["missing_keys"], *resized})
    _warn_of_unused(name, loaded["unexpected_keys"])
    return causal_lm, tokenizer


@contextmanager
def _faults_of(name: str) -> Iterator[None]:
    """Turn what the libraries raise into a refusal: over unexpected files that can be anything."""
    try:
        yield
    except Exception as error:
        place, cure = "folder", "fetch the model again, or set llm.pretrained to another one"
        if not Path(name).is_dir():
            place, cure = "hub or folder", OUT_OF_REACH.format(name=name)
        raise LlmNotFoundError(
            f"language model {name!r} could not be loaded from the {place} "
            f"({_in_one_line(error)}): {cure}"
        ) from error


def _warn_of_unused(name: str, unused: Collection[str]) -> None:
    """Say which weights the configuration has no place for: layers could be among them."""
    if unused:
        logger.warning(
            "Language model %r holds %d weights that its config.json has no place for, %s the "
            "first: they are left out",
            *(name, len(unused), min(unused)),
        )


def _in_one_line(error: Exception) -> str:
    """The error's kind and the beginning of what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

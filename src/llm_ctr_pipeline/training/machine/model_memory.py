"""What a model takes in memory, reckoned before any of it is made."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import torch
from rich.filesize import decimal
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.storage.memory import machine_memory
from llm_ctr_pipeline.models.baselines.description import BaselineDescription
from llm_ctr_pipeline.models.layers import FieldEmbedding, GenEncoder
from llm_ctr_pipeline.models.llm_ctr import make_projector, make_terms
from llm_ctr_pipeline.models.loading import ITS_CODE, configure, objections_to
from llm_ctr_pipeline.models.settings import (
    ArchitectureSettings,
    LlmCtrSettings,
    LlmSettings,
    TermsSettings,
)
from llm_ctr_pipeline.training.machine.devices import resolve_device
from llm_ctr_pipeline.training.ranks.group import ranks
from llm_ctr_pipeline.training.settings import Execution, Stages

# Bytes of a float32 weight; its gradient and AdamW's two moments take as many each.
WEIGHT, LEARNING = 4, 12

_FEWER_IDS = "model.embedding_dim, or raise preprocess.min_count for fewer ids"
# By the part of a model that has the most weights, what to lower.
CURES = {
    "embedding": _FEWER_IDS,
    "gen": "model.embedding_dim",
    "projector": "model.projector_dim",
    "llm": "llm.architecture's sizes, or name a smaller model in llm.pretrained",
    "terms": "the path's terms.hidden_sizes",
    "cross": "model.embedding_dim",
    "mlp": "network.hidden_sizes",
    "second_mlp": "network.second_hidden_sizes",
    "gate": "network.gate_hidden_sizes",
    "second_gate": "network.gate_hidden_sizes",
}


class ModelMemoryError(RefusedError, MemoryError):
    """A model that this machine's memory cannot hold."""


def weights_of_architecture(architecture: ArchitectureSettings) -> int:
    """Count the weights of a language model, without its vocabulary.

    Raises:
        SettingsError: transformers makes no language model of these settings.
        UnsupportedModelError: It makes one that cannot be used.
    """
    config = configure(architecture, architecture.vocab_size)
    with objections_to(architecture):
        return _weights_of_llm(config)


def weights_of_llm_ctr(
    settings: LlmCtrSettings,
    field_sizes: Sequence[int],
    source: LlmSettings,
    terms: TermsSettings | None = None,
) -> dict[str, int]:
    """Count the weights of an `LlmCtr` by its parts, without the language model's vocabulary.

    A pretrained model that cannot be read counts as none: loading it tells what is wrong.

    Raises:
        SettingsError: transformers makes no language model of these settings.
        UnsupportedModelError: It makes one that cannot be used.
    """
    llm, hidden = 0, 1
    if source.architecture is not None:
        llm, hidden = weights_of_architecture(source.architecture), source.architecture.hidden_size
    else:
        with suppress(Exception):  # whatever is wrong with it, loading tells
            config = AutoConfig.from_pretrained(source.pretrained, **ITS_CODE)
            llm, hidden = _weights_of_llm(config), config.hidden_size
    width, fields = settings.embedding_dim, len(field_sizes)
    with torch.device("meta"):
        parts = {
            "embedding": FieldEmbedding(field_sizes, width, settings.embedding_init_std),
            "gen": GenEncoder(fields, width, settings.gen_gamma),
            "projector": make_projector(settings, fields, hidden),
            "terms": make_terms(terms, settings, field_sizes),
        }
    counted = {name: _count(part) for name, part in parts.items() if part is not None}
    return counted | {"llm": llm}


def weights_of_baseline(description: BaselineDescription) -> dict[str, int]:
    """Count the weights of a baseline by its parts."""
    with torch.device("meta"):
        model = description.build()
    return {name: _count(part) for name, part in model.named_children()}


def check_memory(weights: Mapping[str, int], stages: Stages, execution: Execution) -> None:
    """Refuse a model whose weights, gradients and moments no memory here holds.

    What rows take in a pass is not reckoned in, so a model that passes may still not fit.

    Args:
        weights: Their number by the model's parts.
        stages: Say which parts learn together.
        execution: Says on which device.

    Raises:
        ModelMemoryError: The machine or its device has less memory.
        DeviceError: The device is not there.
    """
    trained = [set(stage.components or weights) for stage in stages.root.values()]
    learning = max(sum(weights[part] for part in parts & {*weights}) for parts in trained)
    held = WEIGHT * sum(weights.values())
    device = resolve_device(execution.device)
    on_device = held + LEARNING * learning
    if execution.strategy == "fsdp":  # shares out all of it; to score, a device has all weights
        on_device = max(held, on_device // ranks().count)
    copies = ranks().local_count  # where it is made, by each process
    machine = "this machine" if copies == 1 else f"each of this machine's {copies} processes"
    if device.type == "cuda":
        has = torch.cuda.get_device_properties(device).total_memory
        _check(weights, on_device, has, f"the device {device}")
        _check(weights, held, machine_memory() // copies, machine)
    else:
        _check(weights, held + LEARNING * learning, machine_memory() // copies, machine)


def _check(weights: Mapping[str, int], needed: int, has: int, where: str) -> None:
    if needed > has:
        largest = max(weights, key=weights.__getitem__)
        raise ModelMemoryError(
            f"the model's {sum(weights.values()):,} weights take {decimal(needed)} with what "
            f"learning needs of gradients and moments, and {where} has {decimal(has)}: most of "
            f"them, {weights[largest]:,}, are in {largest}, so lower "
            f"{CURES.get(largest, _FEWER_IDS)}"
        )


def _weights_of_llm(config: PretrainedConfig) -> int:
    with torch.device("meta"):
        backbone = AutoModelForCausalLM.from_config(config).base_model
    return _count(backbone) - _count(backbone.get_input_embeddings())


def _count(part: nn.Module) -> int:
    return sum(weight.numel() for weight in part.parameters())

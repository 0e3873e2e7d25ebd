"""The models that benchmarks compare: ours, and the obvious implementation of the same.

Shape legend: N rows, F fields.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForCausalLM, Qwen3Config

from benchmarks.repeated_prompt import RepeatedPromptCtr
from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
from llm_ctr_pipeline.models.prompt import PromptTokens
from llm_ctr_pipeline.models.settings import LlmCtrSettings
from llm_ctr_pipeline.training.machine.devices import (
    choose_kernel,
    count_weights,
    resolve_device,
    resolve_precision,
)
from llm_ctr_pipeline.training.optimizer import build_optimizer
from llm_ctr_pipeline.training.settings import Execution
from llm_ctr_pipeline.training.step import TrainingStep

FIELDS = 24
IDS_A_FIELD = 2000
TOKENS = PromptTokens(prompt=tuple(range(100, 134)), suffix=(), answers=(15, 16))


@dataclass(frozen=True)
class Size:
    """One size of the model.

    Attributes:
        llm: Qwen3's configuration.
        projector_dim: Width of the projector's layer between.
    """

    llm: Qwen3Config
    projector_dim: int


SIZES = {
    "embedded default": Size(
        Qwen3Config(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            tie_word_embeddings=True,
        ),
        projector_dim=128,
    ),
    "Qwen3-0.6B": Size(
        Qwen3Config(
            vocab_size=151_936,
            hidden_size=1024,
            intermediate_size=3072,
            num_hidden_layers=28,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=128,
            tie_word_embeddings=True,
        ),
        projector_dim=512,
    ),
}


def build_pair(
    size: Size, execution: Execution, attention: str = "auto"
) -> tuple[LlmCtr, RepeatedPromptCtr]:
    """Build ours and the obvious implementation with the same random weights, on the device."""
    torch.manual_seed(0)
    causal_lm = AutoModelForCausalLM.from_config(size.llm, dtype=torch.float32)
    decoder = LlmDecoder.from_causal_lm(copy.deepcopy(causal_lm), TOKENS)
    settings = LlmCtrSettings(
        embedding_dim=16,
        embedding_init_std=0.01,
        gen_gamma=6.0,
        projector_dim=size.projector_dim,
        prompt="unused, as the tokens are given",
        prompt_suffix="",
    )
    ours = LlmCtr(settings, [IDS_A_FIELD] * FIELDS, decoder)
    decoder.kernel = choose_kernel(attention, execution, decoder.backbone.config)
    obvious = RepeatedPromptCtr(copy.deepcopy(ours), causal_lm, TOKENS)
    device = resolve_device(execution.device)
    return ours.to(device), obvious.to(device)


@dataclass(frozen=True)
class Contest:
    """Both sides with the same weights, and the rows that they are timed on.

    Attributes:
        ours: Our model.
        obvious: The obvious implementation.
        execution: How ours runs, with nothing left to be picked but the number of passes.
        plain: How the obvious one runs.
        batch: The rows, on the device.
        device: Where both run.
    """

    ours: LlmCtr
    obvious: RepeatedPromptCtr
    execution: Execution
    plain: Execution
    batch: EncodedSplit
    device: torch.device


def set_up_contest(
    size: Size, rows: int, execution: Execution, attention: str, opponent_precision: str | None
) -> Contest:
    """Build both sides, and make sure that they compute the same."""
    device = resolve_device(execution.device)
    ours, obvious = build_pair(size, execution, attention)
    settled = settle(execution, ours)
    precision = opponent_precision or settled.precision
    plain = Execution(**(settled.model_dump() | {"precision": precision}))
    batch = random_rows(rows, device)
    check_same(ours, obvious, batch, settled)
    return Contest(ours, obvious, settled, plain, batch, device)


def random_rows(rows: int, device: torch.device) -> EncodedSplit:
    """Draw rows of random ids and labels."""
    generator = torch.Generator().manual_seed(1)
    ids_NF = torch.randint(0, IDS_A_FIELD, (rows, FIELDS), generator=generator, dtype=torch.int32)
    labels_N = torch.randint(0, 2, (rows,), generator=generator).float()
    return EncodedSplit(ids_NF, labels_N).to(device)


def settle(execution: Execution, model: nn.Module) -> Execution:
    """Replace what is `auto` by what training makes of it, so that both sides run alike."""
    device = resolve_device(execution.device)
    precision = resolve_precision(execution.precision, device, count_weights(model))
    return Execution(**(execution.model_dump() | {"precision": precision}))


def autocast(execution: Execution) -> torch.autocast:
    """The settled precision, for the obvious implementation."""
    device = resolve_device(execution.device)
    dtype = torch.float16 if execution.precision == "16-mixed" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=execution.precision != "32-true")


def our_step(model: LlmCtr, batch: EncodedSplit, execution: Execution) -> Callable[[], None]:
    """A training step as `fit` takes it: passes, backward, optimiser."""
    optimizer = build_optimizer(model, lr=1e-5, encoder_lr=1e-5, weight_decay=0.0)
    step = TrainingStep(model, optimizer, len(batch), execution, sample=batch)
    return lambda: step(batch.ids_NF, batch.labels_N)


def obvious_step(
    model: RepeatedPromptCtr, batch: EncodedSplit, execution: Execution
) -> Callable[[], None]:
    """The obvious training step, with the same optimiser over every weight it has."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        with autocast(execution):
            loss = F.binary_cross_entropy_with_logits(model(batch.ids_NF).float(), batch.labels_N)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def check_same(
    ours: nn.Module, obvious: nn.Module, batch: EncodedSplit, execution: Execution
) -> None:
    """Refuse to compare what does not compute the same."""
    with torch.no_grad(), autocast(execution):
        losses = [
            F.binary_cross_entropy_with_logits(model(batch.ids_NF).float(), batch.labels_N).item()
            for model in (ours, obvious)
        ]
        lower = torch.is_autocast_enabled(batch.ids_NF.device.type)
    difference = abs(losses[0] - losses[1]) / abs(losses[1])
    if difference > (1e-2 if lower else 1e-5):
        raise AssertionError(f"losses differ: {losses[0]} and {losses[1]}")


def tokens(rows: int) -> int:
    """Tokens that a step over so many rows has to compute."""
    return rows * FIELDS + len(TOKENS.prompt)


def necessary_flops(model: LlmCtr, rows: int) -> float:
    """Floating-point operations that a training step has to do: 6 a weight and token."""
    embedding = model.llm.backbone.get_input_embeddings().weight.numel()
    backbone = sum(weight.numel() for weight in model.llm.backbone.parameters()) - embedding
    projector = sum(weight.numel() for weight in model.projector.parameters())
    gen = int(model.gen.generate.weight.numel())
    return float(6 * (backbone * tokens(rows) + projector * rows * FIELDS + gen * rows))

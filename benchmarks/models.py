"""The models that benchmarks compare: ours, and the obvious implementation of the same.

Shape legend: B rows, F fields, P prompt tokens.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Qwen3Config

from llm_ctr_pipeline.models.llm_ctr import LlmCtr, LlmCtrConfig
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
from llm_ctr_pipeline.models.prompt import PromptTokens
from llm_ctr_pipeline.models.repeated_prompt import RepeatedPromptCtr
from llm_ctr_pipeline.training.devices import choose_kernel

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


def build_pair(size: Size, device: torch.device) -> tuple[LlmCtr, RepeatedPromptCtr]:
    """Build ours and the obvious implementation with the same random weights."""
    torch.manual_seed(0)
    causal_lm = AutoModelForCausalLM.from_config(size.llm, dtype=torch.float32)
    decoder = LlmDecoder.from_causal_lm(copy.deepcopy(causal_lm), TOKENS)
    config = LlmCtrConfig(16, 0.01, 6.0, size.projector_dim, prompt="", prompt_suffix="")
    ours = LlmCtr(config, [IDS_A_FIELD] * FIELDS, decoder)
    decoder.kernel = choose_kernel("auto", str(device), "auto")
    obvious = RepeatedPromptCtr(copy.deepcopy(ours), causal_lm, TOKENS)
    return ours.to(device), obvious.to(device)


def random_batch(rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw ids, int32 `[B, F]`, and labels, float32 `[B]`."""
    generator = torch.Generator().manual_seed(1)
    ids_BF = torch.randint(0, IDS_A_FIELD, (rows, FIELDS), generator=generator, dtype=torch.int32)
    labels_B = torch.randint(0, 2, (rows,), generator=generator).float()
    return ids_BF.to(device), labels_B.to(device)


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 on a GPU, nothing on the CPU: what training does by default."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def training_step(model: nn.Module, ids_BF: Tensor, labels_B: Tensor) -> Callable[[], Tensor]:
    """Forward, backward and optimiser as one call, which returns the loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> Tensor:
        with autocast(ids_BF.device):
            loss = F.binary_cross_entropy_with_logits(model(ids_BF).float(), labels_B)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def check_same(ours: nn.Module, obvious: nn.Module, ids_BF: Tensor, labels_B: Tensor) -> float:
    """Refuse to compare what does not compute the same; return the relative loss difference."""
    with torch.no_grad(), autocast(ids_BF.device):
        losses = [
            F.binary_cross_entropy_with_logits(model(ids_BF).float(), labels_B).item()
            for model in (ours, obvious)
        ]
    difference = abs(losses[0] - losses[1]) / abs(losses[1])
    tolerance = 1e-2 if ids_BF.is_cuda else 1e-5
    if difference > tolerance:
        raise AssertionError(f"losses differ: {losses[0]} and {losses[1]}")
    return difference


def necessary_flops(model: LlmCtr, rows: int) -> float:
    """Floating-point operations that a training step has to do: 6 a weight and token."""
    tokens = rows * FIELDS + len(TOKENS.prompt)
    embedding = model.llm.backbone.get_input_embeddings().weight.numel()
    backbone = sum(weight.numel() for weight in model.llm.backbone.parameters()) - embedding
    projector = sum(weight.numel() for weight in model.projector.parameters())
    gen = int(model.gen.generate.weight.numel())
    return float(6 * (backbone * tokens + projector * rows * FIELDS + gen * rows))

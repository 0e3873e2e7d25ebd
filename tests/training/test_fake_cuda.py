"""A training step and a validation on a GPU that is not there: devices, dtypes, layouts, waiting."""

import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.deepfm import DeepFm
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.settings import DeepFmSettings
from llm_ctr_pipeline.training.optimizer import build_optimizer
from llm_ctr_pipeline.training.score import predict_log_odds
from llm_ctr_pipeline.training.settings import Execution
from llm_ctr_pipeline.training.step import TrainingStep
from tests.conftest import TOKENS
from tests.fake_cuda import CUDA, NoTransfers, fake_cuda, on_fake_cuda

MakeModel = Callable[..., LlmCtr]
MakeLm = Callable[..., PreTrainedModel]
MakeExecution = Callable[..., Execution]

HALF = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
ATEN = torch.ops.aten
MATH = F.scaled_dot_product_attention


def as_bias(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    if mask is None:
        return None
    bias = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -torch.inf)
    return bias.expand(*query.shape[:3], key.shape[2])


def sdpa(query: Tensor, key: Tensor, value: Tensor, kernel: str, **asked: Any) -> Tensor:
    """Attend as PyTorch does with a GPU's kernel, whose layout is the operator's own."""
    mask, scale, causal = asked.get("attn_mask"), asked["scale"], asked.get("is_causal", False)
    grouped, full = asked.get("enable_gqa", False), query.dtype == torch.float32
    if kernel == "efficient" and not grouped:
        attend = ATEN._scaled_dot_product_efficient_attention
        bias = as_bias(mask, query, key)
        return attend(query, key, value, bias, True, 0.0, causal, scale=scale)[0]
    if kernel == "flash" and mask is None and not full:
        attend = ATEN._scaled_dot_product_flash_attention
        return attend(query, key, value, 0.0, causal, scale=scale)[0]
    if kernel == "cudnn" and not grouped and not full:
        attend = ATEN._scaled_dot_product_cudnn_attention
        bias = as_bias(mask, query, key)
        return attend(query, key, value, bias, True, 0.0, causal, scale=scale)[0]
    return MATH(query, key, value, **asked)


class FlashAttention(torch.autograd.Function):
    """What the package flash-attn takes and returns: memory laid out as the query's."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        assert query.dtype in {torch.float16, torch.bfloat16}
        assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
        ctx.save_for_backward(query, key, value)
        return torch.empty_like(query)

    @staticmethod
    def backward(ctx: Any, _gradient: Tensor) -> Any:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors)


def flash_attn_func(
    query: Tensor, key: Tensor, value: Tensor, softmax_scale: float, causal: bool
) -> Tensor:
    return FlashAttention.apply(query, key, value)


def step_and_validation(model: nn.Module, execution: Execution) -> None:
    """Take one step in two passes, and score a batch of the usual size and a smaller one."""
    with fake_cuda() as mode:
        model = on_fake_cuda(model, mode)
        with mode:
            optimizer = build_optimizer(model, 1e-3, 1e-2, 0.01)
            fields = len(model.field_sizes)
            ids_BF = torch.zeros(5, fields, dtype=torch.int32, device=CUDA)
            split = EncodedSplit(ids_BF, torch.zeros(5, device=CUDA))
            step = TrainingStep(model, optimizer, len(split), execution, sample=split)
            with NoTransfers():
                step(split.ids_NF, split.labels_N)
                assert step.forward(ids_BF, often=True).dtype == torch.float32
            step.model.eval()
            assert predict_log_odds(step.forward, split, 3, CUDA).shape == (5,)
            moments = [state for held in optimizer.state.values() for state in held.values()]
            weights = [weight for weight in model.parameters() if weight.requires_grad]
            assert len(optimizer.state) == len(weights) > 0
            for tensor in [*weights, *moments]:
                assert (tensor.device, tensor.dtype) == (CUDA, torch.float32)
            assert step.loss_sum.device == step.correct.device == CUDA


# Each kernel meets each precision, and each of the two meets every setting of the others.
KERNELS = [
    *(f"sdpa-{name}" for name in ("efficient", "flash", "cudnn", "math")),
    "flash_attention_2",
    "flex_attention",
]
OTHERS = [(False, False, False), (False, True, True), (True, False, True), (True, True, False)]
CASES = [
    (kernel, precision, *OTHERS[(row + column) % 4])
    for row, kernel in enumerate(KERNELS)
    for column, precision in enumerate(HALF)
    if (kernel, precision) != ("flash_attention_2", "32-true")  # which is refused
]


@pytest.mark.parametrize(("kernel", "precision", "again", "suffix", "tied"), CASES)
def test_a_step_of_the_language_model_runs_on_a_gpu(
    make_model: MakeModel,
    make_causal_lm: MakeLm,
    make_execution: MakeExecution,
    monkeypatch: pytest.MonkeyPatch,
    kernel: str,
    precision: str,
    again: bool,
    suffix: bool,
    tied: bool,
) -> None:
    name, _, of_sdpa = kernel.partition("-")
    tokens = replace(TOKENS, suffix=(3, 5)) if suffix else TOKENS
    model = make_model(make_causal_lm("qwen3", tie_word_embeddings=tied), tokens)
    model.llm.kernel = name
    attended = []

    def attend(query: Tensor, key: Tensor, value: Tensor, **asked: Any) -> Tensor:
        attended.append((query.device, query.dtype))
        return sdpa(query, key, value, of_sdpa, **asked)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attend)
    stand_in = SimpleNamespace(flash_attn_func=flash_attn_func)
    monkeypatch.setitem(sys.modules, "flash_attn", stand_in)  # type: ignore[arg-type]
    checkpointing = "on" if again else "off"
    step_and_validation(
        model,
        make_execution(
            device="cuda",
            precision=precision,
            compile="off",
            micro_batch_size=3,
            activation_checkpointing=checkpointing,
        ),
    )
    assert set(attended) == {(CUDA, HALF[precision])}


@pytest.mark.parametrize("gen", [True, False])
@pytest.mark.parametrize("precision", HALF)
def test_a_step_of_deepfm_runs_on_a_gpu(
    make_execution: MakeExecution, precision: str, gen: bool
) -> None:
    settings = DeepFmSettings(
        embedding_dim=4,
        embedding_init_std=0.1,
        gen_gamma=6.0,
        gen=gen,
        hidden_sizes=(8,),
        dropout=0.1,
    )
    execution = make_execution(
        device="cuda", precision=precision, compile="off", micro_batch_size=3
    )
    step_and_validation(DeepFm(settings, (3, 5, 4)), execution)

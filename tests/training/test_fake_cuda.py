"""A step and a validation on a GPU that is not there: devices, dtypes, layouts, waiting."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention
from transformers import PreTrainedModel

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models import shared_prefix
from llm_ctr_pipeline.models.baselines.deepfm import DeepFm
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.settings import DeepFmSettings
from llm_ctr_pipeline.training.distillation.teacher import Teacher, Teaching
from llm_ctr_pipeline.training.optimizer import build_optimizer
from llm_ctr_pipeline.training.score import score_ids
from llm_ctr_pipeline.training.settings import Execution, TeacherSettings
from llm_ctr_pipeline.training.step import TrainingStep
from tests.baselines import describe
from tests.conftest import TOKENS
from tests.decoders import DEEPFM_TERMS, EVERYTHING
from tests.fake_cuda import CUDA, NoTransfers, fake_cuda, on_fake_cuda
from tests.training.test_history import TRAINED

MakeModel = Callable[..., LlmCtr]
MakeLm = Callable[..., PreTrainedModel]
MakeExecution = Callable[..., Execution]

DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reaches into c10 on Linux alone")

ON_CUDA = {"device": "cuda", "micro_batch_size": 2}
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


class Fused(torch.autograd.Function):
    """A fused kernel's shapes and layouts: memory laid out as the query's."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
        ctx.save_for_backward(query, key, value)
        return torch.empty_like(query)

    @staticmethod
    def backward(ctx: Any, _gradient: Tensor) -> Any:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors)


def fused(query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
    """Stand in for flash-attn and for compiled FlexAttention."""
    result: Tensor = Fused.apply(query, key, value)
    return result


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    """Leave no tensors without data in the caches of other tests."""
    for forget in (torch._dynamo.reset, shared_prefix._block_mask.cache_clear):
        forget()
    yield
    for forget in (torch._dynamo.reset, shared_prefix._block_mask.cache_clear):
        forget()


@pytest.fixture
def with_kernel(
    make_model: MakeModel, make_causal_lm: MakeLm, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., LlmCtr]:
    """Make a model that attends by a kernel, whose part on the GPU a stand-in takes."""

    def make(
        kernel: str, precision: str, suffix: bool = False, tied: bool = True, **parts: Any
    ) -> LlmCtr:
        name, _, of_sdpa = kernel.partition("-")
        tokens = replace(TOKENS, suffix=(3, 5)) if suffix else TOKENS
        model = make_model(make_causal_lm("qwen3", tie_word_embeddings=tied), tokens, **parts)
        model.llm.kernel = name

        def checked(attend: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def call(query: Tensor, key: Tensor, value: Tensor, **asked: Any) -> Tensor:
                for tensor in (query, key, value):
                    assert (tensor.device, tensor.dtype) == (CUDA, DTYPES[precision])
                return attend(query, key, value, **asked)

            return call

        stand_in = checked(partial(sdpa, kernel=of_sdpa))
        monkeypatch.setattr(F, "scaled_dot_product_attention", stand_in)
        flash_attn = ModuleType("flash_attn")
        flash_attn.flash_attn_func = checked(fused)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "flash_attn", flash_attn)
        monkeypatch.setattr(shared_prefix, "_compiled_flex_attention", lambda: checked(fused))
        # Uncompiled it would make all scores.
        monkeypatch.setattr(shared_prefix, "flex_attention", None)
        return model

    return make


def step_and_validation(
    model: nn.Module, execution: Execution, teacher: nn.Module | None = None
) -> None:
    """Take one step in two passes, and score two batches."""
    with fake_cuda() as mode:
        model = on_fake_cuda(model, mode)
        taught_by = None if teacher is None else on_fake_cuda(teacher, mode)
        with mode:
            optimizer = build_optimizer(model, 1e-3, 1e-2, 0.01)
            fields = len(model.field_sizes)
            ids_BF = torch.zeros(4, fields, dtype=torch.int32, device=CUDA)
            split = EncodedSplit(ids_BF, torch.zeros(4, device=CUDA))
            teaching = None
            if taught_by is not None:
                chosen = TeacherSettings(path="single_phase", weight=0.7, temperature=2.0)
                one = Teacher(taught_by, chosen, "digest", TRAINED)
                teaching = Teaching(one, execution, len(split))
            step = TrainingStep(
                model, optimizer, len(split), execution, sample=split, teaching=teaching
            )
            with NoTransfers():
                step(split.ids_NF, split.labels_N)
            step.model.eval()
            assert score_ids(step.forward, split.ids_NF, 2, CUDA).shape == (4,)
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
OTHERS = [("off", False, False), ("off", True, True), ("on", False, True), ("on", True, False)]
CASES = [
    (kernel, precision, *OTHERS[(row + column) % 4])
    for row, kernel in enumerate(KERNELS)
    for column, precision in enumerate(DTYPES)
    if (kernel, precision) != ("flash_attention_2", "32-true")  # which is refused
]


@pytest.mark.parametrize(("kernel", "precision", "again", "suffix", "tied"), CASES)
def test_a_step_of_the_language_model_runs_on_a_gpu(
    with_kernel: Callable[..., LlmCtr],
    make_execution: MakeExecution,
    kernel: str,
    precision: str,
    again: str,
    suffix: bool,
    tied: bool,
) -> None:
    execution = make_execution(
        **ON_CUDA, precision=precision, compile="off", activation_checkpointing=again
    )
    step_and_validation(with_kernel(kernel, precision, suffix, tied), execution)


@pytest.mark.parametrize("kind", ["fm", "deepfm"])
@pytest.mark.parametrize("precision", DTYPES)
def test_a_step_with_all_parts_and_dropouts_runs_on_a_gpu(
    with_kernel: Callable[..., LlmCtr], make_execution: MakeExecution, precision: str, kind: str
) -> None:
    parts = EVERYTHING | {"terms": DEEPFM_TERMS.model_copy(update={"kind": kind})}
    execution = make_execution(**ON_CUDA, precision=precision, compile="off")
    step_and_validation(with_kernel("sdpa-math", precision, **parts), execution)


@pytest.mark.slow
@pytest.mark.parametrize("again", ["off", "on"])
@pytest.mark.parametrize(
    ("kernel", "parts"),
    [
        ("sdpa-math", {}),
        ("sdpa-math", EVERYTHING),
        ("flash_attention_2", {}),
        ("flex_attention", {}),
    ],
)
def test_a_step_on_a_gpu_compiles_into_one_graph(
    with_kernel: Callable[..., LlmCtr],
    make_execution: MakeExecution,
    monkeypatch: pytest.MonkeyPatch,
    kernel: str,
    parts: dict[str, Any],
    again: str,
) -> None:
    model = with_kernel(kernel, "bf16-mixed", **parts)
    monkeypatch.setattr(shared_prefix, "flex_attention", flex_attention)
    monkeypatch.setattr(
        torch, "compile", partial(torch.compile, backend="aot_eager", fullgraph=True)
    )
    execution = make_execution(
        **ON_CUDA, precision="bf16-mixed", compile="default", activation_checkpointing=again
    )
    torch._dynamo.utils.counters.clear()
    step_and_validation(model, execution)
    # One for training, one for validation.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("precision", DTYPES)
def test_flex_attention_compiles_by_itself_for_what_runs_uncompiled(
    with_kernel: Callable[..., LlmCtr],
    make_execution: MakeExecution,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
) -> None:
    model = with_kernel("flex_attention", precision)
    as_compiled = torch.compile(flex_attention, fullgraph=True, backend="aot_eager")
    monkeypatch.setattr(shared_prefix, "_compiled_flex_attention", lambda: as_compiled)
    step_and_validation(model, make_execution(**ON_CUDA, precision=precision, compile="off"))


@pytest.mark.parametrize("gen", [True, False])
@pytest.mark.parametrize("precision", DTYPES)
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
        batch_norm=False,  # which takes no passes
    )
    execution = make_execution(**ON_CUDA, precision=precision, compile="off")
    step_and_validation(DeepFm(settings, (3, 5, 4)), execution)


@pytest.mark.parametrize("precision", DTYPES)
def test_a_step_with_a_teacher_runs_on_a_gpu(
    with_kernel: Callable[..., LlmCtr], make_execution: MakeExecution, precision: str
) -> None:
    """Its log-odds do not go through the host."""
    execution = make_execution(**ON_CUDA, precision=precision, compile="off", eval_batch_size=3)
    step_and_validation(describe("deepfm").build(), execution, with_kernel("sdpa-math", precision))

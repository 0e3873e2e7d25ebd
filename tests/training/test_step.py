"""Every setting of how a step runs gives the loss and the gradients of the plain step."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training import fit as fit_module
from llm_ctr_pipeline.training import step as step_module
from llm_ctr_pipeline.training.fit import fit
from llm_ctr_pipeline.training.machine.memory import (
    DeviceMemoryError,
    set_activation_checkpointing,
)
from llm_ctr_pipeline.training.settings import Execution, TrainingSettings
from llm_ctr_pipeline.training.step import TrainingStep
from tests.training.steps import ROWS, KeepsGradients, RunStep, assert_same, plain_step

MakeModel = Callable[..., LlmCtr]
MakeSplit = Callable[..., EncodedSplit]
MakeSettings = Callable[..., TrainingSettings]

KERNELS = ["sdpa", "flash_attention_2", "flex_attention"]
MODES = ["off", "default", "reduce-overhead"]


@pytest.mark.parametrize("rows", [1, 4, 5, 11, ROWS, 100])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_passes_of_any_size_add_up_to_the_batch(
    make_model: MakeModel, batch: EncodedSplit, run_step: RunStep, rows: int, checkpointing: bool
) -> None:
    expected = plain_step(make_model(), batch)
    assert_same(run_step(make_model(), batch, rows, checkpointing), expected)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma"])
def test_layers_computed_again_give_the_same_in_every_architecture(
    make_causal_lm: Callable[..., PreTrainedModel],
    make_model: MakeModel,
    batch: EncodedSplit,
    run_step: RunStep,
    architecture: str,
) -> None:
    expected = plain_step(make_model(make_causal_lm(architecture)), batch)
    found = run_step(make_model(make_causal_lm(architecture)), batch, 6, again=True)
    assert_same(found, expected)


def test_checkpointing_keeps_less_for_the_backward_pass(
    make_model: MakeModel, make_causal_lm: Callable[..., PreTrainedModel], batch: EncodedSplit
) -> None:
    kept = {}
    for on in (False, True):
        model = make_model(make_causal_lm(num_hidden_layers=8)).train()
        set_activation_checkpointing(model, on=on)
        sizes: list[int] = []

        def note(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(batch.ids_NF)
        kept[on] = sum(sizes)
    assert kept[True] < 0.4 * kept[False]


@pytest.mark.parametrize(
    ("size", "most", "sizes"),
    [(256, 256, {256}), (256, 64, {64}), (256, 100, {85, 86}), (7, 3, {2, 3})],
)
def test_passes_are_of_equal_size_give_or_take_a_row(
    make_model: MakeModel,
    make_execution: Callable[..., Execution],
    batch: EncodedSplit,
    size: int,
    most: int,
    sizes: set[int],
) -> None:
    model, execution = make_model(), make_execution(micro_batch_size=most)
    step = TrainingStep(model, KeepsGradients(model), size, execution, sample=batch)
    assert step.usual_sizes == sizes


@pytest.mark.parametrize(
    ("rows", "asked", "mode"),
    [(ROWS, "reduce-overhead", "reduce-overhead"), (5, "reduce-overhead", "default")],
)
def test_cuda_graphs_are_left_out_where_gradients_add_up_over_passes(
    make_model: MakeModel,
    make_execution: Callable[..., Execution],
    batch: EncodedSplit,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    rows: int,
    asked: str,
    mode: str,
) -> None:
    """A graph's next run overwrites the gradients of the pass before (pytorch#169545)."""
    modes = []

    def compile_(model: nn.Module, mode: str, dynamic: bool) -> nn.Module:
        modes.append(mode)
        return model

    monkeypatch.setattr(torch, "compile", compile_)
    model, execution = make_model(), make_execution(micro_batch_size=rows, compile=asked)
    step = TrainingStep(model, KeepsGradients(model), ROWS, execution, sample=batch)
    step(batch.ids_NF, batch.labels_N)
    assert modes == [mode]
    assert ("a batch takes 3 passes" in caplog.text) == (mode != asked)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "precision", "again"),
    [
        ("default", "32-true", False),
        ("default", "32-true", True),
        ("default", "bf16-mixed", False),
        ("reduce-overhead", "32-true", False),
    ],
)
def test_a_compiled_step_is_the_plain_one_in_one_graph(
    make_model: MakeModel,
    batch: EncodedSplit,
    run_step: RunStep,
    mode: str,
    precision: str,
    again: bool,
) -> None:
    expected = run_step(make_model(), batch, ROWS, compile="off", precision=precision)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    found = run_step(make_model(), batch, ROWS, again, compile=mode, precision=precision)
    assert_same(found, expected, 1e-5 if precision == "32-true" else 3e-2)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.slow
def test_rare_shapes_are_not_compiled_for(
    make_model: MakeModel, make_split: MakeSplit, make_settings: MakeSettings
) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    train, valid = make_split(16 * 3 + 5, 1), make_split(64 * 2 + 9, 2)
    settings = {"epochs": 2, "batch_size": 16, "eval_batch_size": 64}
    result = fit(make_model(), train, valid, make_settings(**settings, compile="default"))
    # One for training, one for validation; the odd batches at the end of each have none.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    plain = fit(make_model(), train, valid, make_settings(**settings, compile="off"))
    for found, expected in zip(result.history, plain.history, strict=True):
        assert found.train_loss == pytest.approx(expected.train_loss, rel=1e-5)
        assert found.valid_loss == pytest.approx(expected.valid_loss, rel=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize(("kernel", "mode"), itertools.product(KERNELS, MODES))
def test_every_kernel_and_mode_is_the_plain_step_on_a_gpu(
    make_model: MakeModel,
    make_causal_lm: Callable[..., PreTrainedModel],
    run_step: RunStep,
    kernel: str,
    mode: str,
) -> None:
    if kernel == "flash_attention_2":
        pytest.importorskip("flash_attn", reason="the package flash-attn is not installed")
    torch._dynamo.reset()
    generator = torch.Generator().manual_seed(2)
    ids_NF = torch.randint(0, 3, (64, 3), generator=generator, dtype=torch.int32)
    batch = EncodedSplit(ids_NF, torch.randint(0, 2, (64,), generator=generator).float())
    wide = {"head_dim": 32}  # FlexAttention takes no narrower heads
    expected = plain_step(make_model(make_causal_lm("qwen3", **wide)), batch)
    for rows, again in ((64, False), (16, False), (16, True)):
        model = make_model(make_causal_lm("qwen3", **wide))
        model.llm.kernel = kernel
        precision = "bf16-mixed" if kernel == "flash_attention_2" else "32-true"
        settings = {"compile": mode, "precision": precision, "device": "cuda"}
        found = run_step(model, batch, rows, again, **settings)
        found = (found[0], expected[1], found[2]) if precision == "bf16-mixed" else found
        assert_same(found, expected, 5e-2 if precision == "bf16-mixed" else 1e-3)


@pytest.mark.parametrize(("mode", "at_once"), [("off", False), ("default", True)])
def test_memory_is_planned_with_the_training_rows_in_place(
    make_model: MakeModel,
    make_split: MakeSplit,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    at_once: bool,
) -> None:
    """And as the step will run, though the probe is not compiled."""
    asked: list[object] = []
    place, plan = fit_module.on_device_if_it_fits, step_module.plan_memory

    def placing(*arguments: Any) -> Any:
        asked.append("rows")
        return place(*arguments)

    def planning(*arguments: Any, gradients_at_once: bool) -> Any:
        asked.append(gradients_at_once)
        return plan(*arguments, gradients_at_once=gradients_at_once)

    monkeypatch.setattr(fit_module, "on_device_if_it_fits", placing)
    monkeypatch.setattr(step_module, "plan_memory", planning)
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    fit(make_model(), make_split(32, 1), make_split(32, 2), make_settings(epochs=1, compile=mode))
    assert asked == ["rows", at_once]


def test_a_step_that_does_not_fit_says_what_to_lower(
    make_model: MakeModel,
    make_split: MakeSplit,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_large(_model: LlmCtr, ids_BF: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr(LlmCtr, "forward", too_large)
    with pytest.raises(
        DeviceMemoryError,
        match=r"out of memory: lower training\.micro_batch_size \(now 8\) or set "
        r"training\.activation_checkpointing to on \(CUDA out of memory\. Tried .* GiB\.\)$",
    ):
        fit(
            make_model(),
            make_split(32, 1),
            make_split(32, 2),
            make_settings(micro_batch_size=8),
        )


def test_a_validation_that_does_not_fit_says_what_to_lower(
    make_model: MakeModel,
    make_split: MakeSplit,
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forward = LlmCtr.forward

    def too_large(model: LlmCtr, ids_BF: Tensor) -> Tensor:
        if not model.training:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tri")
        return forward(model, ids_BF)

    monkeypatch.setattr(LlmCtr, "forward", too_large)
    with pytest.raises(DeviceMemoryError, match=r"lower training\.eval_batch_size \(now 64\)"):
        fit(make_model(), make_split(32, 1), make_split(32, 2), make_settings())


def test_other_errors_stay_what_they_are(
    make_model: MakeModel, make_split: MakeSplit, make_settings: MakeSettings
) -> None:
    model = make_model()
    broken = copy.deepcopy(make_split(32, 1))
    broken.ids_NF[3, 0] = 999
    with pytest.raises(IndexError):
        fit(model, broken, make_split(32, 2), make_settings())

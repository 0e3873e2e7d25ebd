"""What `training.deterministic` promises, and what is refused for it."""

import re
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training.fit import FitResult
from llm_ctr_pipeline.training.machine import devices
from llm_ctr_pipeline.training.machine.devices import DeviceError
from llm_ctr_pipeline.training.score import score_split
from llm_ctr_pipeline.training.settings import Execution
from llm_ctr_pipeline.training.state import ResumePoint, StateMismatchError
from tests.training.runs import Train, assert_equal_runs, signal_at_validation, signal_in_step


@pytest.fixture
def interrupted(train: Train, point: ResumePoint) -> Callable[..., None]:
    def run(**changes: Any) -> None:
        with pytest.raises(KeyboardInterrupt):
            train(point, on_validation=signal_at_validation(7), **changes)

    return run


def test_on_the_cpu_nothing_changes(train: Train, whole: FitResult) -> None:
    found = train(deterministic=True)
    assert not torch.are_deterministic_algorithms_enabled()  # nor does it for what comes after
    assert found.ran.deterministic
    assert_equal_runs(found, whole)


@pytest.mark.parametrize("action", ["train", "score"])
def test_an_operation_without_a_deterministic_way_names_the_setting(
    train: Train,
    make_model: Callable[..., LlmCtr],
    make_split: Callable[..., EncodedSplit],
    make_execution: Callable[..., Execution],
    monkeypatch: pytest.MonkeyPatch,
    action: str,
) -> None:
    forward = LlmCtr.forward

    def put(model: LlmCtr, ids_BF: Tensor) -> Tensor:
        log_odds_B = forward(model, ids_BF)
        return log_odds_B + torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))[1]

    monkeypatch.setattr(LlmCtr, "forward", put)
    does = {
        "train": lambda: train(deterministic=True),
        "score": lambda: score_split(
            make_model(), make_split(9, 1), make_execution(deterministic=True)
        ),
    }
    message = r"training\.deterministic is true, and PyTorch has no deterministic put_, which the"
    with pytest.raises(DeviceError, match=message) as raised:
        does[action]()
    assert str(raised.value).endswith("needs on this device: set it to false")
    assert "\n" not in str(raised.value)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [
        ({}, {"micro_batch_size": 4}, None),
        ({"deterministic": True}, {"micro_batch_size": 4}, None),
        ({"deterministic": True}, {"deterministic": True, "micro_batch_size": 16}, None),
        (
            {"deterministic": True},
            {"deterministic": True, "micro_batch_size": 5},
            "training.micro_batch_size 16, and now it is 4",
        ),
        (
            {"deterministic": True},
            {"deterministic": True, "activation_checkpointing": "on"},
            "training.activation_checkpointing off, and now it is on",
        ),
        ({}, {"precision": "bf16-mixed"}, "training.precision 32-true, and now it is bf16-mixed"),
        ({}, {"float32_matmul": "high"}, "training.float32_matmul highest, and now it is high"),
    ],
)
def test_a_run_goes_on_only_as_it_promises(
    train: Train,
    point: ResumePoint,
    interrupted: Callable[..., None],
    before: dict[str, Any],
    after: dict[str, Any],
    refused: str | None,
) -> None:
    interrupted(**before)
    if refused is None:
        assert len(train(point, **after).history) == 9
        return
    kept = point.file.read_bytes()
    with pytest.raises(StateMismatchError, match=re.escape(refused)) as raised:
        train(point, **after)
    assert "\n" not in str(raised.value)
    assert point.file.read_bytes() == kept


def test_a_precision_picked_for_another_processor_is_asked_for_to_go_on(
    train: Train,
    point: ResumePoint,
    interrupted: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "LARGE_MODEL", 1)
    monkeypatch.setattr(devices, "_processor", lambda: ["flags : avx512_bf16"])
    whole = train(precision="auto")
    interrupted(precision="auto")
    assert point.load()[0].ran.precision == "bf16-mixed"
    monkeypatch.setattr(devices, "_processor", lambda: ["flags : avx2"])
    message = (
        r"training\.precision bf16-mixed, and now it is 32-true, .*: set it to bf16-mixed to go"
    )
    with pytest.raises(StateMismatchError, match=message):
        train(point, precision="auto")
    assert_equal_runs(train(point, precision="bf16-mixed"), whole)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["off", "default"])
@pytest.mark.parametrize("kernel", ["sdpa", "flash_attention_2"])
def test_on_a_gpu_a_deterministic_run_that_goes_on_ends_bit_for_bit_as_one_that_was_not_cut_off(
    train: Train,
    make_model: Callable[..., LlmCtr],
    make_causal_lm: Callable[..., PreTrainedModel],
    point: ResumePoint,
    kernel: str,
    mode: str,
) -> None:
    if kernel == "flash_attention_2":
        pytest.importorskip("flash_attn", reason="the package flash-attn is not installed")

    def new_model() -> LlmCtr:
        model = make_model(make_causal_lm("qwen3", head_dim=32))
        model.llm.kernel = kernel
        return model

    settings = {"device": "cuda", "deterministic": True, "compile": mode, "precision": "auto"}
    whole = train(model=new_model(), **settings)
    assert_equal_runs(train(model=new_model(), **settings), whole)
    model = new_model()
    signal_in_step(model, 5, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(point, model, **settings)
    assert_equal_runs(train(point, new_model(), **settings), whole)

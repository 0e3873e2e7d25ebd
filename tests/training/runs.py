"""Runs that are interrupted, and what they are compared with."""

import os
import signal
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from llm_ctr_pipeline.training.fit import FitResult
from llm_ctr_pipeline.training.history import ValidationRecord

Train = Callable[..., FitResult]

# 100 rows in batches of 16 are 7 steps an epoch; with a validation every 3 steps, 9 validations.
STEPS, VALIDATIONS = 21, 9
VALIDATED = [3, 6, 7, 10, 13, 14, 17, 20, 21]


def without_timing(result: FitResult) -> list[dict[str, Any]]:
    timed = {"seconds", "rows_per_second"}
    return [
        {name: value for name, value in record.to_json().items() if name not in timed}
        for record in result.history
    ]


def call_in_step(model: nn.Module, step: int, act: Callable[[], None]) -> None:
    """Do something in the middle of a training step, counted from 1."""
    done = 0

    def count(module: nn.Module, _inputs: tuple[Tensor]) -> None:
        nonlocal done
        done += module.training
        if done == step and module.training:
            act()

    model.register_forward_pre_hook(count)


def signal_in_step(model: nn.Module, step: int, number: int) -> None:
    """Send this process a signal in the middle of a training step, counted from 1."""
    call_in_step(model, step, lambda: os.kill(os.getpid(), number))


def fail_in_step(model: nn.Module, step: int) -> None:
    """End a run in the middle of a training step, counted from 1, as a kill does: at once."""

    def fail() -> None:
        raise RuntimeError("killed")

    call_in_step(model, step, fail)


def signal_at_validation(step: int) -> Callable[[ValidationRecord], None]:
    def send(record: ValidationRecord) -> None:
        if record.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return send


def assert_equal_runs(resumed: FitResult, whole: FitResult) -> None:
    assert without_timing(resumed) == without_timing(whole)
    assert resumed.best.step == whole.best.step
    assert resumed.stopped_early == whole.stopped_early
    assert resumed.losses == whole.losses
    assert resumed.best_weights.keys() == whole.best_weights.keys()
    for name, weight in whole.best_weights.items():
        assert torch.equal(resumed.best_weights[name], weight), name

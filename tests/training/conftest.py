from collections.abc import Callable
from typing import Any

import pytest

from llm_ctr_pipeline.training.settings import Execution, TrainingSettings

EXECUTION = {
    "device": "cpu",
    "cpu_threads": 1,
    "precision": "32-true",
    "compile": "auto",
    "eval_batch_size": 64,
    "micro_batch_size": None,
    "activation_checkpointing": "auto",
}


@pytest.fixture(scope="session")
def make_execution() -> Callable[..., Execution]:
    """Make settings of how to run: on the CPU unless they are changed."""
    return lambda **changes: Execution(**(EXECUTION | changes))


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., TrainingSettings]:
    """Make settings of a short training on the CPU."""

    def make(**changes: Any) -> TrainingSettings:
        settings: dict[str, Any] = {
            "epochs": 3,
            "batch_size": 16,
            "lr": 1e-3,
            "encoder_lr": 1e-2,
            "weight_decay": 0.0,
            "patience": 10,
            "validate_every_steps": None,
            "seed": 5,
            "resume": True,
            "keep_state_every": 1,
            "rows_in": "auto",
            "stream_buffer_rows": 1000,
        }
        return TrainingSettings(**(EXECUTION | settings | changes))

    return make

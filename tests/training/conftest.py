from collections.abc import Callable
from typing import Any

import pytest

from llm_ctr_pipeline.training.fit import FitSettings


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., FitSettings]:
    """Make settings of a short training on the CPU."""

    def make(**changes: Any) -> FitSettings:
        settings: dict[str, Any] = {
            "epochs": 3,
            "batch_size": 16,
            "lr": 1e-3,
            "encoder_lr": 1e-2,
            "weight_decay": 0.0,
            "patience": 10,
            "validate_every_steps": None,
            "eval_batch_size": 64,
            "device": "cpu",
            "precision": "32-true",
            "seed": 5,
        }
        return FitSettings(**{**settings, **changes})

    return make

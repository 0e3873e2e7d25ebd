from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from llm_ctr_pipeline.training.settings import Execution, FitSettings


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., FitSettings]:
    """Make settings of a short training on the CPU."""

    def make(**changes: Any) -> FitSettings:
        settings: dict[str, Any] = {
            "components": None,
            "epochs": 3,
            "batch_size": 16,
            "lr": 1e-3,
            "encoder_lr": 1e-2,
            "weight_decay": 0.0,
            "patience": 10,
            "validate_every_steps": None,
            "seed": 5,
        }
        execution = {"device": "cpu", "precision": "32-true", "eval_batch_size": 64}
        names = {field.name for field in fields(Execution)}
        execution |= {name: changes.pop(name) for name in names & set(changes)}
        return FitSettings(**{**settings, **changes}, execution=Execution(**execution))

    return make

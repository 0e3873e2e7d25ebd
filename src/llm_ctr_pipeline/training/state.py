"""The training state on disk, from which an interrupted run goes on exactly."""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.training.history import ValidationRecord


class StateMismatchError(RefusedError, ValueError):
    """The state on disk is of a run with other settings or other data."""


@dataclass
class TrainingState:
    """Where a run stands between two steps.

    Attributes:
        rows_in: Where the rows lie, `memory` or `stream`: their order depends on it.
        step: Optimiser steps completed.
        without_gain: Validations since the best one.
        history: One record a validation.
        best_weights: The model's weights at the best validation, on the CPU.
        loss_sum: Summed loss of the rows trained on since the last validation.
        correct: How many of these rows were on the right side of 0.5.
        rows: How many they are.
        seconds: Training time they took.
        random: States of the random generators that dropout draws from, as `random_states` gave
            them.
    """

    rows_in: str = "memory"
    step: int = 0
    without_gain: int = 0
    history: list[ValidationRecord] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    loss_sum: float = 0.0
    correct: int = 0
    rows: int = 0
    seconds: float = 0.0
    random: list[Tensor] = field(default_factory=list)


def random_states(device: torch.device) -> list[Tensor]:
    """States of the CPU's generator and, for a CUDA device, of its own."""
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_device]


def set_random_states(states: list[Tensor], device: torch.device) -> None:
    """Set what `random_states` gave, as far as the device has it."""
    torch.set_rng_state(states[0])
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)


def save_state(
    file: Path, key: str, state: TrainingState, model: dict[str, Tensor], optimizer: dict[str, Any]
) -> None:
    """Write the state in one move: killed at any moment, the file is the old one or the new one.

    Args:
        file: Where to.
        key: Names the settings and the data; `load_state` refuses another.
        state: Where the run stands.
        model: The model's current weights.
        optimizer: The optimiser's state.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # Not `asdict` of the whole, which would copy the best weights.
    fields = {**vars(state), "history": [asdict(record) for record in state.history]}
    content = {"key": key, "state": fields, "model": model, "optimizer": optimizer}
    unfinished = file.with_name(file.name + ".unfinished")
    torch.save(content, unfinished)
    os.replace(unfinished, file)


def load_state(file: Path, key: str) -> tuple[TrainingState, dict[str, Tensor], dict[str, Any]]:
    """Read what `save_state` wrote; no code is run in doing so.

    Returns:
        The state, the model's weights and the optimiser's state.

    Raises:
        StateMismatchError: The state is of other settings or other data.
    """
    content = torch.load(file, map_location="cpu", weights_only=True)
    if content["key"] != key:
        raise StateMismatchError(
            f"{file} is the state of a run with other settings or other data: set them back to go "
            "on with it, or delete the file to train from the start"
        )
    fields = content["state"]
    history = [ValidationRecord(**record) for record in fields.pop("history")]
    return TrainingState(**fields, history=history), content["model"], content["optimizer"]

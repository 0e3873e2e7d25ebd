from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training.fit import FitResult, fit
from llm_ctr_pipeline.training.history import ValidationRecord
from llm_ctr_pipeline.training.optimizer import freeze_all_but
from llm_ctr_pipeline.training.settings import Execution, TrainingSettings
from llm_ctr_pipeline.training.state import ResumePoint
from llm_ctr_pipeline.training.step import TrainingStep
from tests.training.runs import Train
from tests.training.steps import ROWS, Found, KeepsGradients, RunStep

EXECUTION = {
    "device": "cpu",
    "cpu_threads": 1,
    "precision": "32-true",
    "float32_matmul": "highest",
    "deterministic": False,
    "compile": "auto",
    "eval_batch_size": 64,
    "micro_batch_size": None,
    "activation_checkpointing": "auto",
    "strategy": "auto",
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
            "lr_schedule": "constant",
            "lr_factor": 0.1,
            "lr_warmup_steps": 0,
            "lr_min": 0.0,
            "weight_decay": 0.0,
            "redraw_embeddings": False,
            "patience": 10,
            "early_stopping_metric": "auc",
            "validate_every_steps": None,
            "seed": 5,
            "resume": True,
            "keep_state_every": 1,
            "keep_state_every_steps": None,
            "keep_state_every_minutes": None,
            "rows_in": "auto",
            "stream_buffer_rows": 1000,
        }
        return TrainingSettings(**(EXECUTION | settings | changes))

    return make


@pytest.fixture
def run_step(make_execution: Callable[..., Execution]) -> RunStep:
    def run(
        model: LlmCtr,
        batch: EncodedSplit,
        rows: int,
        again: bool = False,
        **execution: Any,
    ) -> Found:
        """One step's mean loss, right answers and gradients."""
        settings = make_execution(
            micro_batch_size=rows, activation_checkpointing="on" if again else "off", **execution
        )
        optimizer = KeepsGradients(model)
        step = TrainingStep(model, optimizer, len(batch), settings, sample=batch)
        on_device = batch.to(step.device)
        step(on_device.ids_NF, on_device.labels_N)
        gradients = {name: gradient.cpu() for name, gradient in optimizer.noted.items()}
        return step.loss_sum.item() / len(batch), int(step.correct.item()), gradients

    return run


@pytest.fixture
def batch(make_split: Callable[..., EncodedSplit]) -> EncodedSplit:
    return make_split(ROWS, 1, noise=0.3)


@pytest.fixture(scope="module")
def train(
    make_model: Callable[..., LlmCtr],
    make_split: Callable[..., EncodedSplit],
    make_settings: Callable[..., TrainingSettings],
) -> Train:
    """Train a new model, always the same, from the start or from where it was interrupted."""

    def run(
        resume: ResumePoint | None = None,
        model: LlmCtr | None = None,
        on_validation: Callable[[ValidationRecord], None] | None = None,
        components: tuple[str, ...] | None = None,
        **changes: Any,
    ) -> FitResult:
        settings = make_settings(**{"validate_every_steps": 3, "weight_decay": 0.01, **changes})
        split = make_split(100, 1, noise=0.2), make_split(60, 2, noise=0.2)
        model = model or make_model()
        freeze_all_but(model, components)
        return fit(model, *split, settings, on_validation, resume)

    return run


@pytest.fixture(scope="module")
def uninterrupted(make_model: Callable[..., LlmCtr], train: Train) -> tuple[FitResult, LlmCtr]:
    model = make_model()
    return train(model=model), model


@pytest.fixture(scope="module")
def whole(uninterrupted: tuple[FitResult, LlmCtr]) -> FitResult:
    return uninterrupted[0]


@pytest.fixture
def point(tmp_path: Path) -> ResumePoint:
    return ResumePoint(tmp_path / "new folder" / "state.pt", key="settings and data")

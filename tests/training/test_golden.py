"""Twenty steps of a small model against the curve that is checked in.

It notices what no other test does: a change of the model, its random weights, the order of the
rows or the optimiser that nobody meant. Where a change is meant, write the curve anew, look at the
difference and say in the commit why it is right:

    REGENERATE_GOLDEN=1 pytest tests/training/test_golden.py
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.llm_ctr import LlmCtr, LlmCtrConfig
from llm_ctr_pipeline.models.loading import LlmSource
from llm_ctr_pipeline.training.fit import fit
from llm_ctr_pipeline.training.settings import TrainingSettings

CURVE = Path(__file__).parents[1] / "golden" / "single_phase_20_steps.json"
FIELD_SIZES = (7, 5, 11, 3)
STEPS = 20
ARCHITECTURE = {
    "model_type": "qwen3",
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "tie_word_embeddings": True,
}


def train_twenty_steps(
    make_split: Callable[..., EncodedSplit], make_settings: Callable[..., TrainingSettings]
) -> dict[str, list[float]]:
    config = LlmCtrConfig(8, 0.01, 6.0, 16, "Answer with 1 for click or 0 for no click:", "")
    model, _ = LlmCtr.create(config, FIELD_SIZES, LlmSource(architecture=ARCHITECTURE), seed=42)
    train, valid = (
        make_split(rows, seed, noise=0.2, field_sizes=FIELD_SIZES)
        for rows, seed in ((150, 1), (100, 2))
    )
    # 10 steps an epoch, the last of them with a smaller batch.
    settings = make_settings(epochs=2, patience=STEPS, validate_every_steps=1, encoder_lr=1e-3)
    history = fit(model, train, valid, settings).history
    return {
        "train_loss": [record.train_loss for record in history],
        "valid_loss": [record.valid_loss for record in history],
    }


def test_twenty_steps_give_the_curve_that_is_checked_in(
    make_split: Callable[..., EncodedSplit], make_settings: Callable[..., TrainingSettings]
) -> None:
    curve = train_twenty_steps(make_split, make_settings)
    if os.environ.get("REGENERATE_GOLDEN"):
        CURVE.write_text(json.dumps(curve, indent=2) + "\n")
    expected = json.loads(CURVE.read_text())
    assert curve.keys() == expected.keys()
    assert len(curve["train_loss"]) == STEPS
    for name, values in curve.items():
        assert values == pytest.approx(expected[name], rel=1e-5), name

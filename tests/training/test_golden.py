"""Twenty steps of each small model against the curve that is checked in.

It notices what no other test does: a change of the model, its random weights, the order of the
rows or the optimiser that nobody meant. Where a change is meant, write the curves anew, look at
the difference and say in the commit why it is right:

    REGENERATE_GOLDEN=1 pytest tests/training/test_golden.py
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.baselines.deepfm import DeepFm
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.settings import DeepFmSettings, LlmCtrSettings, LlmSettings
from llm_ctr_pipeline.training.checkpoint import CtrModel
from llm_ctr_pipeline.training.fit import fit
from llm_ctr_pipeline.training.settings import TrainingSettings

CURVES = Path(__file__).parents[1] / "golden"
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


def single_phase() -> CtrModel:
    settings = LlmCtrSettings(
        embedding_dim=8,
        embedding_init_std=0.01,
        gen_gamma=6.0,
        projector_dim=16,
        prompt="Answer with 1 for click or 0 for no click:",
        prompt_suffix="",
    )
    llm = LlmSettings(pretrained=None, architecture=ARCHITECTURE, attention="auto")
    model, _ = LlmCtr.create(settings, FIELD_SIZES, llm, seed=42)
    return model


def deepfm() -> CtrModel:
    settings = DeepFmSettings(
        embedding_dim=8,
        embedding_init_std=0.01,
        gen_gamma=6.0,
        gen=True,
        hidden_sizes=(32, 16),
        dropout=0.0,
        batch_norm=False,
    )
    return DeepFm.create(settings, FIELD_SIZES, seed=42)


def train_twenty_steps(
    model: CtrModel,
    make_split: Callable[..., EncodedSplit],
    make_settings: Callable[..., TrainingSettings],
) -> dict[str, list[float]]:
    train, valid = (
        make_split(rows, seed, noise=0.2, field_sizes=FIELD_SIZES)
        for rows, seed in ((150, 1), (100, 2))
    )
    # 10 steps an epoch, the last of them with a smaller batch.
    fit_settings = make_settings(epochs=2, patience=STEPS, validate_every_steps=1, encoder_lr=1e-3)
    history = fit(model, train, valid, fit_settings).history
    return {
        "train_loss": [record.train_loss for record in history],
        "valid_loss": [record.valid_loss for record in history],
    }


@pytest.mark.parametrize("make_model", [single_phase, deepfm])
def test_twenty_steps_give_the_curve_that_is_checked_in(
    make_model: Callable[[], CtrModel],
    make_split: Callable[..., EncodedSplit],
    make_settings: Callable[..., TrainingSettings],
) -> None:
    curve = train_twenty_steps(make_model(), make_split, make_settings)
    file = CURVES / f"{make_model.__name__}_20_steps.json"
    if os.environ.get("REGENERATE_GOLDEN"):
        file.write_text(json.dumps(curve, indent=2) + "\n")
    expected = json.loads(file.read_text())
    assert curve.keys() == expected.keys()
    assert len(curve["train_loss"]) == STEPS
    for name, values in curve.items():
        assert values == pytest.approx(expected[name], rel=1e-5), name

"""The hybrid, from encoded rows to a comparison, with all settings of the decoder's side on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.settings import LlmCtrSettings, LlmSettings
from llm_ctr_pipeline.training.checkpoint import Checkpoint, load_checkpoint
from tests.decoders import DROPOUTS, OF_FIELDS

REPORTING = Path("data/08_reporting/hybrid")
# That of conf/test.
ARCHITECTURE: dict[str, Any] = {
    **{"model_type": "qwen3", "vocab_size": 512, "hidden_size": 16, "intermediate_size": 32},
    **{"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8},
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="module")
def hybrid(
    finished_run: Path, tmp_path_factory: pytest.TempPathFactory, run_here: Callable[..., None]
) -> Path:
    """A project in which the hybrid was trained beside a frozen language model."""
    folder = tmp_path_factory.mktemp("hybrid") / "project"
    shutil.copytree(finished_run, folder)
    params = {"model": OF_FIELDS | DROPOUTS, "llm": {"freeze": True}}
    run_here(folder, "train_hybrid", params=params)
    return folder


@pytest.fixture(scope="module")
def best_model(hybrid: Path) -> Checkpoint:
    return load_checkpoint(hybrid / "data/06_models/hybrid/best_model")


def read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def test_a_hybrid_is_trained_and_tested_as_every_path_is(
    hybrid: Path, best_model: Checkpoint
) -> None:
    model = best_model.build()
    assert isinstance(model, LlmCtr)
    assert model.terms is not None
    assert model.terms.settings.kind == "deepfm"
    assert best_model.training.path == "hybrid"
    report = read(hybrid / REPORTING / "evaluation_x4_test.json")
    assert (report["path"], report["rows"]) == ("hybrid", 500)
    assert report["auc"] > 0.5


def test_a_frozen_language_model_stays_and_all_else_moves(
    hybrid: Path, best_model: Checkpoint
) -> None:
    results = read(hybrid / REPORTING / "training_results.json")
    (stage,) = results["stages"]
    assert stage["components"] == ["embedding", "gen", "projector", "terms"]
    model = best_model.build()
    assert isinstance(model, LlmCtr)
    trained = sum(w.numel() for n, w in model.named_parameters() if not n.startswith("llm."))
    assert stage["trained_parameters"] == trained < results["parameters"]
    (state,) = (hybrid / "data/06_models/hybrid/interrupted").glob("*.pt")
    kept = torch.load(state, weights_only=True)["model"]
    assert {name.split(".")[0] for name in kept} == {"embedding", "gen", "projector", "terms"}

    config = read(hybrid / "data/06_models/hybrid/best_model/config.json")["model"]["config"]
    source = LlmSettings(pretrained=None, attention="auto", architecture=ARCHITECTURE, freeze=True)
    sizes = best_model.feature_map.sizes
    terms = best_model.model.terms  # type: ignore[union-attr]
    new, _ = LlmCtr.create(LlmCtrSettings(**config), sizes, source, 42, terms)
    for name, weight in new.named_parameters():
        assert torch.equal(best_model.weights[name], weight) == name.startswith("llm."), name


def test_a_hybrid_stands_in_the_comparison(hybrid: Path, run_here: Callable[..., None]) -> None:
    compared = {"paths": "single_phase hybrid", "baseline": "single_phase"}
    run_here(hybrid, "compare", params={"compare": compared})
    comparison = read(hybrid / "data/08_reporting/compare/comparison.json")
    assert [model["path"] for model in comparison["models"]] == ["single_phase", "hybrid"]

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from llm_ctr_pipeline.models.settings import (
    BaselineNetworkSettings,
    DeepFmNetworkSettings,
    DeepFmSettings,
    LlmCtrSettings,
    LlmSettings,
)

ARCHITECTURE = {
    "model_type": "qwen3",
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "tie_word_embeddings": True,
}
NETWORK = {
    "model": "deepfm",
    "gen": True,
    "hidden_sizes": [8, 6],
    "dropout": 0.1,
    "batch_norm": True,
}


def test_reading_them_imports_no_torch() -> None:
    script = (
        "import sys, llm_ctr_pipeline.models.settings, llm_ctr_pipeline.params\n"
        "sys.exit(str({'torch', 'lightning', 'transformers'} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, text=True
    )
    assert done.stderr.strip() == ""


@pytest.mark.parametrize(
    ("pretrained", "architecture"), [(None, None), ("Qwen/Qwen3-0.6B", ARCHITECTURE)]
)
def test_neither_name_nor_architecture_is_refused_and_both(
    pretrained: str | None, architecture: dict[str, Any] | None
) -> None:
    with pytest.raises(ValueError, match=r"llm needs either `pretrained` .* or `architecture`"):
        LlmSettings(pretrained=pretrained, architecture=architecture, attention="auto")


def test_deepfm_takes_its_encoder_from_what_all_models_share() -> None:
    shared = {"embedding_dim": 4, "embedding_init_std": 0.5, "gen_gamma": 6.0}
    model = LlmCtrSettings(**shared, projector_dim=8, prompt="Say 0 or 1:", prompt_suffix="")
    joined = DeepFmSettings.join(model, DeepFmNetworkSettings(**NETWORK))
    assert joined.to_json() == shared | NETWORK


@pytest.mark.parametrize("change", [{"hidden_sizes": []}, {"dropout": 1.0}, {"gama": 6.0}])
def test_what_no_network_can_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DeepFmNetworkSettings(**(NETWORK | change))


@pytest.mark.parametrize("model", ["lstm", None, ["deepfm"]])
def test_a_network_of_no_known_model_is_refused(model: Any) -> None:
    with pytest.raises(ValidationError, match="its model should be one of deepfm, logistic_reg"):
        BaselineNetworkSettings.model_validate(NETWORK | {"model": model})


def test_settings_of_another_model_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"dcnv2\.structure\n  Field required"):
        BaselineNetworkSettings.model_validate(NETWORK | {"model": "dcnv2"})

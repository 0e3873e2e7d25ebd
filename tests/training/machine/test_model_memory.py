from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.settings import (
    ArchitectureSettings,
    LlmCtrSettings,
    LlmSettings,
    TermsSettings,
)
from llm_ctr_pipeline.training.machine import model_memory
from llm_ctr_pipeline.training.machine.model_memory import (
    ModelMemoryError,
    check_memory,
    weights_of_architecture,
    weights_of_baseline,
    weights_of_llm_ctr,
)
from llm_ctr_pipeline.training.ranks.group import Ranks
from llm_ctr_pipeline.training.settings import Execution, Stages
from tests.baselines import NETWORKS, describe

SIZES = (7, 30, 5)
ENCODER = {"embedding_dim": 4, "embedding_init_std": 0.01, "gen_gamma": 6.0}
MODEL = LlmCtrSettings(**ENCODER, projector_dim=16, prompt="Say 0 or 1:", prompt_suffix="")
WIDER = {"projector_per_field": True, "field_vectors": True, "embedding_beside_gen": True}
TERMS = [
    TermsSettings(kind=kind, gen=gen, hidden_sizes=(8,), dropout=0.0, batch_norm=False)
    for kind, gen in (("fm", False), ("deepfm", True))
]
ARCHITECTURE: dict[str, Any] = {
    **{"model_type": "qwen3", "vocab_size": 300, "hidden_size": 16, "intermediate_size": 24},
    **{"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8},
    "tie_word_embeddings": False,
}
EXECUTION = Execution(
    **{"device": "cpu", "cpu_threads": 1, "precision": "auto", "compile": "off"},
    **{"eval_batch_size": 8, "micro_batch_size": None, "activation_checkpointing": "auto"},
    **{"deterministic": False, "float32_matmul": "highest", "strategy": "auto"},
)


def llm(**changes: Any) -> LlmSettings:
    architecture = ArchitectureSettings(**ARCHITECTURE | changes)
    return LlmSettings(pretrained=None, architecture=architecture, attention="auto")


def stages(*components: list[str] | None) -> Stages:
    trained = [{"datasets": ["x4"], "components": each} for each in components]
    starts = ["new", *["previous"] * len(trained)]
    return Stages.model_validate(
        {f"s{i}": stage | {"start": starts[i]} for i, stage in enumerate(trained)}
    )


@pytest.mark.parametrize("terms", [None, *TERMS])
@pytest.mark.parametrize("changes", [{}, WIDER])
def test_the_weights_are_those_of_the_model_made(
    changes: dict[str, Any], terms: TermsSettings | None
) -> None:
    settings = MODEL.model_copy(update=changes)
    model, _ = LlmCtr.create(settings, SIZES, llm(), 0, terms)
    made = {
        name: sum(weight.numel() for weight in part.parameters())
        for name, part in model.named_children()
        if list(part.parameters())
    }
    vocabulary = (len(model.llm.tokens.used) + 2) * 16  # input rows in use, two answer rows
    made["llm"] -= vocabulary
    assert weights_of_llm_ctr(settings, SIZES, llm(), terms) == made
    assert ("terms" in made) == (terms is not None)


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"logistic_regression"}))
def test_the_weights_of_a_baseline_are_those_of_the_model_made(name: str) -> None:
    description = describe(name, SIZES)
    total = sum(weight.numel() for weight in description.build().parameters())
    assert sum(weights_of_baseline(description).values()) == total


def test_a_model_is_refused_by_what_learns_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_memory, "machine_memory", lambda: 4 * 150 + 12 * 100)
    weights = {"embedding": 100, "projector": 50}
    check_memory(weights, stages(["embedding"], ["projector"]), EXECUTION)
    with pytest.raises(ModelMemoryError) as caught:
        check_memory(weights, stages(None), EXECUTION)
    assert str(caught.value) == (
        "the model's 150 weights take 2.4 kB with what learning needs of gradients and moments, "
        "and this machine has 1.8 kB: most of them, 100, are in embedding, so lower "
        "model.embedding_dim, or raise preprocess.min_count for fewer ids"
    )


@pytest.mark.parametrize(
    ("strategy", "device_has", "fits"),
    [("fsdp", 1200, True), ("fsdp", 1199, False), ("ddp", 1200, False), ("ddp", 2400, True)],
)
def test_ranks_that_share_out_the_weights_need_less_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, strategy: str, device_has: int, fits: bool
) -> None:
    has = SimpleNamespace(total_memory=device_has)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: has)
    monkeypatch.setattr(model_memory, "resolve_device", lambda _: torch.device("cuda", 0))
    monkeypatch.setattr(model_memory, "ranks", lambda: Ranks(0, 2))
    execution = EXECUTION.model_copy(update={"strategy": strategy})
    refused = pytest.raises(ModelMemoryError, match="the device cuda:0 has 1")
    with nullcontext() if fits else refused:
        check_memory({"embedding": 100, "projector": 50}, stages(None), execution)


def test_a_model_that_no_machine_holds_is_refused_without_being_made() -> None:
    settings = MODEL.model_copy(update={"embedding_dim": 2**20})
    for source in (llm(), llm(hidden_size=2**20, intermediate_size=2**20)):
        with pytest.raises(ModelMemoryError, match=r"this machine has [\d.]+ GB: most of them"):
            check_memory(weights_of_llm_ctr(settings, SIZES, source), stages(None), EXECUTION)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "qwen99"}, "Unrecognized model identifier: qwen99"),
        ({"model_type": "vit"}, "it is no decoder"),
        ({"model_type": "llama", "hidden_size": 17}, "not a multiple of the number of attention"),
    ],
)
def test_what_makes_no_language_model_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RefusedError, match=said) as caught:
        weights_of_architecture(ArchitectureSettings(**ARCHITECTURE | changes))
    assert len(str(caught.value)) < 350


def test_a_pretrained_model_is_counted_by_its_configuration(tmp_path: Path) -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model(**ARCHITECTURE)
    config.save_pretrained(tmp_path)
    source = LlmSettings(pretrained=str(tmp_path), architecture=None, attention="auto")
    assert weights_of_llm_ctr(MODEL, SIZES, source) == weights_of_llm_ctr(MODEL, SIZES, llm())
    gone = source.model_copy(update={"pretrained": str(tmp_path / "gone")})
    assert weights_of_llm_ctr(MODEL, SIZES, gone)["llm"] == 0

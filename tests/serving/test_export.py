import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.repeated_prompt import RepeatedPromptCtr
from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.features.feature_map import FeatureMap
from llm_ctr_pipeline.data.storage.record_text import from_text
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.settings import LlmCtrSettings, LlmSettings
from llm_ctr_pipeline.serving import export
from llm_ctr_pipeline.serving.export import export_checkpoint
from llm_ctr_pipeline.training.checkpoint import Checkpoint
from tests.baselines import NETWORKS, describe, move_weights
from tests.decoders import EVERYTHING
from tests.training.test_checkpoint import PROVENANCE, make_checkpoint

FIELD_SIZES = (3, 5, 4)
SETTINGS = LlmCtrSettings(
    embedding_dim=4,
    embedding_init_std=0.5,
    gen_gamma=6.0,
    projector_dim=8,
    prompt="Say 0 or 1, now:",
    prompt_suffix=" then:",
)
ARCHITECTURE = {
    **{"model_type": "qwen3", "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48},
    **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    **{"head_dim": 8, "tie_word_embeddings": True},
}


def random_weights(**changes: Any) -> LlmSettings:
    architecture = ARCHITECTURE | changes
    return LlmSettings(pretrained=None, architecture=architecture, attention="auto")


def trained(**changes: Any) -> Checkpoint:
    """A checkpoint of a decoder whose weights moved since they were made."""
    source = random_weights(**changes)
    model, tokenizer = LlmCtr.create(SETTINGS, FIELD_SIZES, source, PROVENANCE.seed)
    move_weights(model, by=0.1)
    return replace(make_checkpoint(model), tokenizer=tokenizer)


def draw_ids(rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    columns = [torch.randint(0, size, (rows,), generator=generator) for size in FIELD_SIZES]
    return torch.stack(columns, dim=1)


def write(checkpoint: Checkpoint, to: export.Format, folder: Path) -> Path:
    export_checkpoint(checkpoint, to, random_weights()).write(folder)
    return folder


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_the_trained_language_model(tmp_path: Path, tied: bool) -> None:
    checkpoint = trained(tie_word_embeddings=tied)
    source = random_weights(tie_word_embeddings=tied)
    export_checkpoint(checkpoint, "huggingface", source).write(tmp_path)
    causal_lm = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert causal_lm.get_input_embeddings().weight.shape[0] == len(tokenizer)
    model = checkpoint.build()
    assert isinstance(model, LlmCtr)
    assert tuple(tokenizer(SETTINGS.prompt)["input_ids"]) == model.llm.tokens.prompt
    oracle = RepeatedPromptCtr(model, causal_lm.eval(), model.llm.tokens)
    ids_BF = draw_ids(7)
    with torch.inference_mode():
        torch.testing.assert_close(
            oracle.answer_logits(ids_BF), model.answer_logits(ids_BF), rtol=1e-5, atol=1e-5
        )


def test_tokens_that_were_not_trained_are_those_that_training_started_from(tmp_path: Path) -> None:
    checkpoint = trained()
    write(checkpoint, "huggingface", tmp_path)
    rows = AutoModelForCausalLM.from_pretrained(tmp_path).get_input_embeddings().weight
    started, _ = export.load_llm(random_weights(), "Say 0 or 1, now: then:", PROVENANCE.seed)
    before = started.get_input_embeddings().weight
    changed = [row for row in range(len(rows)) if not torch.equal(rows[row], before[row])]
    assert changed == list(checkpoint.model.llm.tokens.used)


def test_another_language_model_than_the_one_trained_is_refused() -> None:
    other = random_weights(num_hidden_layers=3, intermediate_size=40)
    with pytest.raises(SettingsError, match="was trained from: intermediate_size, ") as refused:
        export_checkpoint(trained(), "huggingface", other)
    assert "num_hidden_layers" in str(refused.value)


def test_a_baseline_has_no_language_model_to_write() -> None:
    checkpoint = replace(make_checkpoint(describe("deepfm").build()), tokenizer=None)
    with pytest.raises(SettingsError, match="has no language model to write as huggingface: set e"):
        export_checkpoint(checkpoint, "huggingface", random_weights())


def assert_scores(score: Callable[[Tensor], Tensor], model: nn.Module) -> None:
    """The same probabilities as the model's within 1e-5, however many rows come."""
    for rows in (1, 2, 33):
        ids_BF = draw_ids(rows)
        with torch.inference_mode():
            found_B, expected_B = score(ids_BF), torch.sigmoid(model(ids_BF))
        assert (found_B.shape, found_B.dtype) == ((rows,), torch.float32)
        torch.testing.assert_close(found_B, expected_B, rtol=0, atol=1e-5)


def scored_by_torch(folder: Path) -> Callable[[Tensor], Tensor]:
    program = torch.export.load(folder / "scorer.pt2").module()
    return lambda ids_BF: program(ids_BF)["probability"]


def scored_by_onnxruntime(folder: Path) -> Callable[[Tensor], Tensor]:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(folder / "scorer.onnx")
    assert [given.name for given in session.get_inputs()] == ["ids"]
    assert [found.name for found in session.get_outputs()] == ["probability"]
    return lambda ids_BF: torch.from_numpy(session.run(["probability"], {"ids": ids_BF.numpy()})[0])


SCORED = {"torch": scored_by_torch, "onnx": scored_by_onnxruntime}


@pytest.mark.parametrize("to", ["torch", "onnx"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_baselines_scorer_gives_its_probabilities(
    tmp_path: Path, to: export.Format, name: str
) -> None:
    if to == "onnx":
        pytest.importorskip("onnxscript")
    model = describe(name).build().eval()
    move_weights(model)
    checkpoint = replace(make_checkpoint(model), tokenizer=None)
    assert_scores(SCORED[to](write(checkpoint, to, tmp_path)), model)


@pytest.mark.parametrize("to", ["torch", "onnx"])
@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["plain", "everything"])
def test_a_decoders_scorer_gives_its_probabilities(
    make_model: Callable[..., LlmCtr], tmp_path: Path, to: export.Format, settings: dict[str, Any]
) -> None:
    if to == "onnx":
        pytest.importorskip("onnxscript")
    model = make_model(**settings).eval()
    assert_scores(SCORED[to](write(make_checkpoint(model), to, tmp_path)), model)


@pytest.mark.slow
def test_a_compiled_scorer_gives_its_models_probabilities(
    make_model: Callable[..., LlmCtr], tmp_path: Path
) -> None:
    model = make_model(**EVERYTHING).eval()
    write(make_checkpoint(model), "compiled", tmp_path)
    program = torch._inductor.aoti_load_package(tmp_path / "scorer.pt2")
    assert_scores(lambda ids_BF: program(ids_BF)["probability"], model)


def test_a_scorer_takes_ids_of_32_bits_too(tmp_path: Path) -> None:
    model = describe("deepfm").build().eval()
    move_weights(model)
    score = scored_by_torch(write(make_checkpoint(model), "torch", tmp_path))
    assert torch.equal(score(draw_ids(5).int()), score(draw_ids(5)))


def test_what_the_ids_mean_lies_beside_the_scorer(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(describe("deepfm").build())
    write(checkpoint, "torch", tmp_path)
    feature_map = (tmp_path / "feature_map.json").read_bytes()
    assert from_text(FeatureMap, feature_map) == checkpoint.feature_map
    assert pq.read_table(tmp_path / "vocabulary.parquet").equals(checkpoint.vocabulary)


def test_the_prompt_is_no_part_of_a_decoders_program() -> None:
    checkpoint = trained()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program = export.trace(checkpoint.build())
    tokens = len(FIELD_SIZES) + len(checkpoint.model.llm.tokens.suffix)
    hidden = ARCHITECTURE["hidden_size"]
    shapes = [
        tuple(node.meta["val"].shape)
        for node in program.graph.nodes
        if isinstance(node.meta.get("val"), Tensor)
    ]
    # Of what has hidden states for each row and token.
    lengths = [shape[1] for shape in shapes if len(shape) == 3 and shape[2] == hidden]
    assert tokens in lengths
    assert tokens + len(checkpoint.model.llm.tokens.prompt) not in lengths


def test_onnx_without_its_packages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda _name: None)
    checkpoint = make_checkpoint(describe("deepfm").build())
    with pytest.raises(SettingsError, match="needs onnx and onnxscript: install the extra `export"):
        export_checkpoint(checkpoint, "onnx", random_weights())


def test_a_compiled_scorer_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "which", lambda _name: None)
    checkpoint = make_checkpoint(describe("deepfm").build())
    with pytest.raises(SettingsError, match=r"needs a C\+\+ compiler: install g\+\+ or name"):
        export_checkpoint(checkpoint, "compiled", random_weights())

import logging

import pytest
from transformers import AutoConfig

from llm_ctr_pipeline.models.acceptance.configuration import (
    check_configuration,
    check_context,
    switch_off_dropout,
)
from llm_ctr_pipeline.models.shared_prefix import UnsupportedModelError

HYBRID = {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2}


@pytest.mark.parametrize(
    ("architecture", "changes", "reason"),
    [
        ("bert", {}, "is no decoder"),
        ("bart", {}, "is no decoder"),
        ("t5", {}, "is no decoder"),
        ("vit", {}, "is no decoder"),
        ("gemma3", {}, "reads more than text: choose its text model alone"),
        ("lfm2", HYBRID, "has layers of the kind conv, which mix tokens"),
        ("mamba", {}, "has layers of the kind linear_attention"),
        ("gemma2", {}, r"caps its attention scores \(attn_logit_softcapping\)"),
        ("falcon", {"alibi": True}, "positions are biases"),
        ("qwen3", {"quantization_config": {"quant_method": "gptq"}}, "quantised"),
    ],
)
def test_what_cannot_fit_is_refused_by_its_configuration(
    architecture: str, changes: dict[str, object], reason: str
) -> None:
    config = AutoConfig.for_model(architecture, **changes)
    with pytest.raises(UnsupportedModelError, match=f"{reason}.* choose"):
        check_configuration(config)


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gpt2", "gpt_neox", "gemma3_text"])
def test_decoders_are_not_refused(architecture: str) -> None:
    check_configuration(AutoConfig.for_model(architecture))


@pytest.mark.parametrize(
    ("architecture", "changes", "limit"),
    [
        ("qwen3", {"max_position_embeddings": 20}, "positions"),
        ("gpt2", {"n_positions": 20}, "positions"),
        ("mistral", {"sliding_window": 20}, "sliding window"),
        ("gemma3_text", {"sliding_window": 20}, "sliding window"),
        ("llama4_text", {"attention_chunk_size": 20}, "attention chunks"),
    ],
)
def test_a_context_that_is_not_seen_as_a_whole_is_refused(
    architecture: str, changes: dict[str, object], limit: str
) -> None:
    config = AutoConfig.for_model(architecture, **changes)
    check_context(config, 20)
    with pytest.raises(
        UnsupportedModelError, match=rf"are 21 tokens, .* 20 at most \({limit}\): short"
    ):
        check_context(config, 21)


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("mistral", {"sliding_window": None}),
        ("qwen2", {"sliding_window": 20, "use_sliding_window": False}),
        ("xlnet", {}),  # positions without an end, which it tells as -1
    ],
)
def test_a_window_that_is_not_used_limits_nothing(
    architecture: str, changes: dict[str, object]
) -> None:
    check_context(AutoConfig.for_model(architecture, **changes), 100)


@pytest.mark.parametrize(
    ("architecture", "changes", "names"),
    [
        ("gpt2", {}, ["resid_pdrop", "embd_pdrop", "attn_pdrop"]),
        ("qwen3", {"attention_dropout": 0.2}, ["attention_dropout"]),
        ("phimoe", {}, ["router_jitter_noise"]),
        ("opt", {}, ["dropout"]),
    ],
)
def test_dropout_is_switched_off_with_one_warning(
    caplog: pytest.LogCaptureFixture,
    architecture: str,
    changes: dict[str, object],
    names: list[str],
) -> None:
    config = AutoConfig.for_model(architecture, **changes)
    with caplog.at_level(logging.WARNING):
        switch_off_dropout(config)
    assert [getattr(config, name) for name in names] == [0.0] * len(names)
    (warning,) = caplog.messages
    assert warning.startswith("The language model is trained without dropout; it came with ")
    assert all(f"{name}=0." in warning for name in names)
    assert "summary" not in warning
    caplog.clear()
    switch_off_dropout(config)
    assert not caplog.messages

"""Architectures of transformers: each computed as by itself, or refused with the documented reason.

The table in docs/language_models.md says which; here a small model of each kind is tried.
"""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from benchmarks.repeated_prompt import RepeatedPromptCtr
from llm_ctr_pipeline.models.acceptance.configuration import check_configuration, switch_off_dropout
from llm_ctr_pipeline.models.fixed_prompt import FixedPromptCtr
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.prompt import PromptTokens
from llm_ctr_pipeline.models.shared_prefix import UnsupportedModelError

MakeModel = Callable[..., LlmCtr]

PAGE = Path(__file__).parents[2] / "docs" / "language_models.md"
TOKENS = PromptTokens(prompt=(5, 9, 2, 16, 9, 14), suffix=(3,), answers=(15, 16))
IDS_BF = torch.tensor([[0, 1, 2], [2, 4, 3], [1, 0, 0], [2, 2, 1], [1, 3, 3]])
EXACT = 1e-4  # of what the answers vary by

# By the names that architectures have for them; each takes those that it knows.
SMALL: dict[str, Any] = {
    **{"vocab_size": 40, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None},
    **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64},
    **{"decoder_layers": 2, "decoder_attention_heads": 4, "ffn_dim": 48, "rotary_dim": 4},
    **{"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2},
    **{"n_group": 1, "topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1},
    **{"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8},
    **{"v_head_dim": 12, "state_size": 8, "shared_expert_intermediate_size": 16},
}
LATENT = {"num_key_value_heads": 4}
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16}
SCALES = {
    **{"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.3},
    "logits_scaling": 4.0,
}
CHANGES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "deepseek_v2", "deepseek_v3", "glm4_moe_lite"), LATENT),
    **dict.fromkeys(("minicpm3", "youtu"), LATENT),
    **dict.fromkeys(("granite", "granitemoe", "granitemoeshared"), SCALES),
    **dict.fromkeys(("bamba", "falcon_h1", "granitemoehybrid"), MAMBA | {"mamba_d_ssm": 64}),
    "cohere2": {"layer_types": ["sliding_attention", "full_attention"]},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10_000.0}},
    "dots1": {"n_shared_experts": 1},
    "exaone4": {"layer_types": ["sliding_attention", "full_attention"]},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "hyperclovax": {"logits_scaling": 1.0},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1},
    "olmo3": {"layer_types": ["sliding_attention", "full_attention"]},
    "smollm3": {"no_rope_layers": [1, 0]},
    "zamba2": {"num_hidden_layers": 54},
    "zaya": {"num_experts_per_tok": 1},
}
LEFT_OUT = {"cwm": ("bos_token_id", "eos_token_id"), "falcon": ("head_dim",)}


def documented() -> dict[str, str]:
    """The table: what it says of each architecture, "exact" or why it is refused."""
    rows = re.findall(r"^\| ([^|]+) \| (`[^|]+`) \|$", PAGE.read_text(), re.MULTILINE)
    return {name: says for says, names in rows for name in re.findall(r"`([^`]+)`", names)}


def small_config(architecture: str) -> PreTrainedConfig:
    settings = {**SMALL, **CHANGES.get(architecture, {})}
    default = AutoConfig.for_model(architecture)
    known = {*default.to_dict(), *default.attribute_map}
    known -= set(LEFT_OUT.get(architecture, ()))
    changed = {name: value for name, value in settings.items() if name in known}
    return type(default)(**changed)


def stir(network: nn.Module) -> None:
    """Make weights large: at those that a model starts with, much that differs does not show."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn_like(weight) * 1.5 * weight.shape[-1] ** -0.5)
            else:
                weight.add_(torch.randn_like(weight) * 0.3)


def gradients(network: nn.Module, log_odds_B: Tensor, backbone: nn.Module) -> dict[str, Tensor]:
    (log_odds_B * torch.tensor([1.0, -2.0, 0.5, 1.5, -1.0])).sum().backward()
    vocabulary = backbone.get_input_embeddings().weight
    weights = dict(backbone.named_parameters())
    parts = {name: weight for name, weight in weights.items() if weight is not vocabulary}
    parts["fields"] = next(network.embedding.parameters())
    return {name: weight.grad for name, weight in parts.items() if weight.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "says"), documented().items(), ids=documented())
def test_an_architecture_is_exact_or_refused_as_documented(
    make_model: MakeModel, architecture: str, says: str
) -> None:
    config = small_config(architecture)
    switch_off_dropout(config)
    torch.manual_seed(0)

    def take_over() -> tuple[PreTrainedModel, LlmCtr]:
        check_configuration(config)
        causal_lm = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        return causal_lm, make_model(copy.deepcopy(causal_lm), TOKENS)

    if says != "exact":
        with pytest.raises(UnsupportedModelError, match=says) as refused:
            take_over()
        assert "\n" not in str(refused.value)
        return
    causal_lm, model = take_over()
    stir(model)
    whole = model.llm.write_into(causal_lm)
    oracle = RepeatedPromptCtr(copy.deepcopy(model), whole, TOKENS)
    actual_B, expected_B = model.train()(IDS_BF), oracle.train()(IDS_BF)
    tolerance = EXACT * float(expected_B.detach().std())
    assert tolerance > 1e-3 * EXACT
    torch.testing.assert_close(actual_B, expected_B, rtol=0, atol=tolerance)
    actual, expected = (
        gradients(network, log_odds_B, backbone)
        for network, log_odds_B, backbone in (
            (model, actual_B, model.llm.backbone),
            (oracle, expected_B, whole.base_model),
        )
    )
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        difference = float((actual[name] - gradient).norm())
        assert difference <= EXACT * float(gradient.norm()) + 1e-6, name
    others_BF = torch.cat([IDS_BF[:1], IDS_BF[1:].flip(1) % 3])
    torch.testing.assert_close(model(others_BF)[0], actual_B[0], rtol=0, atol=tolerance)
    served = FixedPromptCtr(model)
    assert served.fixed
    torch.testing.assert_close(served(IDS_BF), expected_B, rtol=0, atol=tolerance)


def test_the_table_names_architectures_that_there_are_and_many() -> None:
    verdicts = documented()
    assert len(verdicts) >= 60
    assert sum(says == "exact" for says in verdicts.values()) >= 20
    for architecture in verdicts:
        AutoConfig.for_model(architecture)

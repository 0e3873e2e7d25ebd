import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.models.acceptance.comparison import (
    OwnAnswers,
    check_answers,
    own_answers,
    refusing,
    stirred,
)
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
from llm_ctr_pipeline.models.prompt import PromptTokens
from llm_ctr_pipeline.models.shared_prefix import UnsupportedModelError

MakeLm = Callable[..., PreTrainedModel]

TOKENS = PromptTokens(prompt=(5, 9, 2, 16, 9, 14), suffix=(3,), answers=(15, 16))
SMALL = {
    **{"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8},
    **{"pad_token_id": None, "bos_token_id": None, "eos_token_id": None},
}


def at_its_start(architecture: str, **changes: object) -> PreTrainedModel:
    """A model of the weights that training would start with."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **SMALL, **changes)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def test_stirred_weights_are_large_and_come_back_bit_for_bit() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 32), nn.LayerNorm(32), nn.Linear(32, 8, bias=False))
    with torch.no_grad():
        network[0].weight.mul_(1e-3)
        network[0].weight[0, 0] = 1e-42  # subnormal
        network[2].weight.zero_()
    before = copy.deepcopy(network.state_dict())
    with stirred(network):
        for name, weight in network.state_dict().items():
            assert not torch.equal(weight, before[name])
        for layer in (network[0], network[2]):
            size = layer.weight.square().mean().sqrt() * math.sqrt(layer.weight.shape[1])
            assert 1.4 < size < 2.9
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


@pytest.mark.parametrize(
    ("architecture", "changes", "reason"),
    [
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, "rows would not be independent"),
        ("doge", {}, r"does not reproduce \(logits"),
    ],
)
def test_what_the_weights_at_the_start_hide_is_found(
    architecture: str, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{reason}.*: choose another model"):
        LlmDecoder.from_causal_lm(at_its_start(architecture, **changes), TOKENS)


def test_a_cap_of_the_logits_shows_at_the_start() -> None:
    causal_lm = at_its_start("nanochat")
    capped = own(causal_lm)
    causal_lm.config.final_logit_softcapping = None
    assert (own(causal_lm) - capped).abs().max() > 1e-3 * capped.abs().max()


def own(causal_lm: PreTrainedModel) -> Tensor:
    with stirred(causal_lm):
        return own_answers(causal_lm, TOKENS, fields=3).logits_B2


def test_weights_that_are_no_numbers_are_refused(make_causal_lm: MakeLm) -> None:
    causal_lm = make_causal_lm()
    with torch.no_grad():
        causal_lm.model.layers[1].mlp.up_proj.weight[0, 0] = math.nan
    with pytest.raises(UnsupportedModelError, match="its weights are damaged, fetch it again"):
        own_answers(causal_lm, TOKENS, fields=3)


def test_what_training_alone_does_is_refused() -> None:
    features_BFH = torch.randn(2, 3, 4)
    decoder = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
    expected = OwnAnswers(features_BFH, features_BFH.flatten(1))
    with pytest.raises(UnsupportedModelError, match="Some computes in training what it does not"):
        check_answers(decoder, expected, "Some")
    check_answers(nn.Flatten(), expected, "Some")


def test_whatever_an_architecture_raises_is_a_refusal_in_one_line() -> None:
    with pytest.raises(UnsupportedModelError) as raised, refusing("SomeModel"):
        raise AttributeError("'NoneType' object has no attribute 'dtype'\nand more")
    assert str(raised.value) == (
        "SomeModel cannot run with a shared prefix (AttributeError: 'NoneType' object has no "
        "attribute 'dtype'): choose another model, such as Qwen3 or Llama"
    )
    with pytest.raises(SettingsError, match="stays"), refusing("SomeModel"):
        raise SettingsError("stays")

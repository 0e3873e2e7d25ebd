import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from llm_ctr_pipeline.models.llm_ctr import LlmCtr, LlmCtrDescription
from llm_ctr_pipeline.models.prompt import PromptTokens
from llm_ctr_pipeline.models.settings import LlmCtrSettings, LlmSettings

MakeLm = Callable[..., PreTrainedModel]
MakeModel = Callable[..., LlmCtr]

IDS_BF = torch.tensor([[0, 1, 2], [2, 4, 3], [1, 0, 0], [2, 2, 1]])
TOKENS = PromptTokens(prompt=(5, 9, 2, 16, 9, 14), suffix=(3,), answers=(15, 16))
SETTINGS = LlmCtrSettings(
    embedding_dim=4,
    embedding_init_std=0.01,
    gen_gamma=6.0,
    projector_dim=8,
    prompt="Say 0 or 1, now:",
    prompt_suffix=" then:",
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


def random_weights(architecture: dict[str, Any]) -> LlmSettings:
    return LlmSettings(pretrained=None, architecture=architecture, attention="auto")


@pytest.mark.parametrize(
    ("architecture", "tied", "bias"),
    [
        ("qwen3", True, False),
        ("llama", False, False),
        ("phi", False, True),
        ("gpt2", True, False),
        ("gemma", True, False),
        ("mistral", False, False),
    ],
)
def test_a_description_builds_the_same_model(
    make_causal_lm: MakeLm, make_model: MakeModel, architecture: str, tied: bool, bias: bool
) -> None:
    model = make_model(make_causal_lm(architecture), TOKENS).eval()
    description = json.loads(json.dumps(model.describe().to_json()))
    assert (description["llm"]["tied"], description["llm"]["bias"]) == (tied, bias)
    again = LlmCtrDescription.from_json(description).build().eval()
    assert not torch.allclose(again(IDS_BF), model(IDS_BF))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.answer_logits(IDS_BF), model.answer_logits(IDS_BF))
    assert again.describe().to_json()["llm"]["tokens"] == description["llm"]["tokens"]
    assert again.settings == model.settings
    assert again.field_sizes == model.field_sizes


def test_special_tokens_beyond_the_rows_in_use_are_no_obstacle(
    make_causal_lm: MakeLm, make_model: MakeModel
) -> None:
    causal_lm = make_causal_lm("qwen3", pad_token_id=38, bos_token_id=37, eos_token_id=36)
    model = make_model(causal_lm, TOKENS).eval()
    description = json.loads(json.dumps(model.describe().to_json()))
    again = LlmCtrDescription.from_json(description).build().eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(IDS_BF), model(IDS_BF))


def test_a_padding_token_in_the_prompt_is_trained_like_any_other(
    make_causal_lm: MakeLm, make_model: MakeModel
) -> None:
    model = make_model(make_causal_lm("qwen3", pad_token_id=5), TOKENS)
    model(IDS_BF).sum().backward()
    gradient = model.llm.backbone.get_input_embeddings().weight.grad
    assert gradient is not None
    assert gradient.abs().sum(dim=1).all()


def test_a_description_also_says_what_today_is_the_default(make_model: MakeModel) -> None:
    llm_config = make_model().describe().llm.config
    assert llm_config["rms_norm_eps"] == 1e-6
    assert llm_config["hidden_act"] == "silu"


def test_a_description_names_no_folder_of_this_machine(
    make_causal_lm: MakeLm, make_model: MakeModel
) -> None:
    causal_lm = make_causal_lm()
    causal_lm.config._name_or_path = "/somewhere/on/this/machine"
    assert "/somewhere" not in json.dumps(make_model(causal_lm).describe().to_json())


def test_the_same_seed_creates_the_same_model_and_another_seed_another() -> None:
    source = random_weights(ARCHITECTURE)
    states = [
        LlmCtr.create(SETTINGS, (3, 5, 4), source, seed)[0].state_dict() for seed in (1, 1, 2)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    drawn = [name for name in states[0] if states[0][name].unique().numel() > 1]
    assert {name.split(".")[0] for name in drawn} == {"embedding", "gen", "projector", "llm"}
    assert not any(torch.equal(states[0][name], states[2][name]) for name in drawn)


def test_the_other_parts_random_weights_do_not_depend_on_the_language_model() -> None:
    sources = (random_weights({**ARCHITECTURE, "num_hidden_layers": layers}) for layers in (1, 2))
    first, second = (LlmCtr.create(SETTINGS, (3, 5, 4), source, seed=1)[0] for source in sources)
    for part in ("embedding", "gen", "projector"):
        states = (getattr(model, part).state_dict().values() for model in (first, second))
        assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))


def test_creating_reads_prompt_and_suffix_and_leaves_the_architecture_alone() -> None:
    architecture = dict(ARCHITECTURE)
    source = random_weights(architecture)
    model, tokenizer = LlmCtr.create(SETTINGS, (3, 5, 4), source, seed=1)
    assert architecture == ARCHITECTURE
    assert tokenizer.decode(model.llm.tokens.prompt) == "Say 0 or 1, now:"
    assert tokenizer.decode(model.llm.tokens.suffix) == " then:"
    assert tokenizer.convert_ids_to_tokens(list(model.llm.tokens.answers)) == ["0", "1"]
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_log_odds_are_the_difference_of_the_answers_logits(make_model: MakeModel) -> None:
    model = make_model()
    logits_B2 = model.answer_logits(IDS_BF)
    labels_B = torch.tensor([0, 1, 1, 0])
    over_answers = nn.functional.cross_entropy(logits_B2, labels_B)
    of_log_odds = nn.functional.binary_cross_entropy_with_logits(model(IDS_BF), labels_B.float())
    torch.testing.assert_close(of_log_odds, over_answers)

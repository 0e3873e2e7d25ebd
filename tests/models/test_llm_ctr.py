import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from llm_ctr_pipeline.models.baselines.deepfm import DeepFm, pairwise_products
from llm_ctr_pipeline.models.llm_ctr import LlmCtr, LlmCtrDescription
from llm_ctr_pipeline.models.prompt import PromptTokens
from llm_ctr_pipeline.models.settings import (
    DeepFmNetworkSettings,
    DeepFmSettings,
    LlmCtrSettings,
    LlmSettings,
)
from tests.decoders import DEEPFM_TERMS, DROPOUTS, EVERYTHING, OF_FIELDS

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


@pytest.mark.parametrize("setting", [*OF_FIELDS, *DROPOUTS, "terms"])
def test_a_setting_changes_what_it_says_and_nothing_else(
    make_model: MakeModel, setting: str
) -> None:
    """All other weights start as they start without it, and with a share of 0 nothing is drawn."""
    plain, model = make_model(), make_model(**{setting: EVERYTHING[setting]})
    replaced = {"projector_per_field": ("projector.layers.0", "projector.layers.2")}
    replaced["embedding_beside_gen"] = replaced["projector_per_field"]
    renamed = {
        "projector.layers.2": "projector.layers.3",
        "projector.layers.3": "projector.layers.4",
    }
    for name, weight in plain.state_dict().items():
        part = name.rpartition(".")[0]
        if setting == "projector_dropout" and part in renamed:
            name = name.replace(part, renamed[part])  # noqa: PLW2901
        if part not in replaced.get(setting, ()):
            assert torch.equal(model.state_dict()[name], weight), name
    added = model.state_dict().keys() - plain.state_dict().keys()
    parts = {"field_vectors": {"projector.vectors.weight"}}
    if setting == "terms":
        assert {name.split(".")[0] for name in added} == {"terms"}
    elif setting != "projector_dropout":
        assert added == parts.get(setting, set())
    if setting in DROPOUTS:
        assert not torch.equal(model(IDS_BF), model(IDS_BF))
        assert torch.equal(model.eval()(IDS_BF), plain.eval()(IDS_BF))


def test_the_projector_reads_generated_features_and_beside_them_the_embeddings(
    make_model: MakeModel,
) -> None:
    model = make_model(embedding_beside_gen=True)
    embedded_BFD = model.embedding(IDS_BF)
    both_BFI = torch.cat([model.gen(embedded_BFD), embedded_BFD], dim=2)
    assert both_BFI.shape == (4, 3, 8)
    assert torch.equal(model.answer_logits(IDS_BF), model.llm(model.projector(both_BFI)))


def test_dropout_of_embeddings_is_what_the_decoder_reads_and_not_the_terms(
    make_model: MakeModel,
) -> None:
    terms = DEEPFM_TERMS.model_copy(update={"dropout": 0.0})
    model = make_model(embedding_dropout=0.4, embedding_beside_gen=True, terms=terms)
    assert model.terms is not None
    dropout = model.embedding_dropout
    dropout.draw(4, torch.device("cpu"))
    dropout.take(0, 4)
    embedded_BFD = model.embedding(IDS_BF)
    read_BFD = embedded_BFD * dropout.drawn / 0.6
    logits_B2 = model.llm(model.projector(torch.cat([model.gen(read_BFD), read_BFD], dim=2)))
    expected_B = logits_B2[:, 1] - logits_B2[:, 0] + model.terms(IDS_BF, embedded_BFD)
    torch.testing.assert_close(model(IDS_BF), expected_B)


@pytest.mark.parametrize("gen", [True, False])
def test_a_hybrids_log_odds_are_the_decoders_and_deepfms(make_model: MakeModel, gen: bool) -> None:
    terms = DEEPFM_TERMS.model_copy(update={"dropout": 0.0, "gen": gen})
    model = make_model(terms=terms)
    settings = DeepFmSettings.join(
        model.settings, DeepFmNetworkSettings(**terms.model_dump(exclude={"kind"}))
    )
    deepfm = DeepFm(settings, (3, 5, 4))
    assert model.terms is not None
    torch.nn.init.normal_(model.terms.linear.table.weight)
    deepfm.load_state_dict(
        model.terms.state_dict()
        | {f"embedding.{name}": w for name, w in model.embedding.state_dict().items()}
    )
    logits_B2 = model.answer_logits(IDS_BF)
    found_B = model(IDS_BF)
    torch.testing.assert_close(found_B, logits_B2[:, 1] - logits_B2[:, 0] + deepfm(IDS_BF))
    assert (found_B - deepfm(IDS_BF)).abs().max() > 1e-3
    found_B.sum().backward()
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in model.parameters())


def test_linear_and_pairwise_terms_have_no_network(make_model: MakeModel) -> None:
    terms = DEEPFM_TERMS.model_copy(update={"kind": "fm", "gen": False})
    model = make_model(terms=terms)
    assert model.terms is not None
    assert [name for name, _ in model.terms.named_parameters()] == ["linear.table.weight"]
    embedded_BFD = model.embedding(IDS_BF)
    with torch.no_grad():
        model.terms.linear.table.weight.copy_(torch.arange(12.0)[:, None])
    linear_B = (IDS_BF + torch.tensor([0, 3, 8])).sum(dim=1)
    pairs_B = pairwise_products(embedded_BFD)
    torch.testing.assert_close(model.terms(IDS_BF, embedded_BFD), linear_B + pairs_B)
    none = make_model(terms=terms.model_copy(update={"kind": "none"}))
    assert none.terms is None
    assert none.describe().terms is None


def test_autocast_leaves_the_sum_with_the_terms_in_float32(make_model: MakeModel) -> None:
    model = make_model(**EVERYTHING).eval()
    assert model.terms is not None
    assert model.terms.output is not None
    with torch.no_grad():
        exact_B = model(IDS_BF)
        model.terms.output.bias += 1000
        with torch.autocast("cpu", torch.bfloat16):
            rounded_B = model(IDS_BF)
    assert rounded_B.dtype == torch.float32
    # bfloat16 counts in steps of 4 at 1000
    torch.testing.assert_close(rounded_B - 1000, exact_B, rtol=0.05, atol=0.2)


def test_a_hybrid_may_start_from_a_baselines_encoder(make_model: MakeModel) -> None:
    model = make_model(**EVERYTHING)
    network = DeepFmNetworkSettings(gen=True, hidden_sizes=(8,), dropout=0.1, batch_norm=False)
    deepfm = DeepFm(DeepFmSettings.join(model.settings, network), (3, 5, 4))
    model.take_encoder(deepfm)
    assert torch.equal(model.embedding.table.weight, deepfm.embedding.table.weight)
    assert deepfm.gen is not None
    assert torch.equal(model.gen.generate.weight, deepfm.gen.generate.weight)


def test_a_description_says_all_settings(make_model: MakeModel) -> None:
    model = make_model(**EVERYTHING).eval()
    again = LlmCtrDescription.from_json(json.loads(json.dumps(model.describe().to_json()))).build()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(IDS_BF), model(IDS_BF))
    assert again.describe().config == model.settings
    assert again.describe().terms == DEEPFM_TERMS

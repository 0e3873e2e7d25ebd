import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from benchmarks.repeated_prompt import RepeatedPromptCtr
from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
from llm_ctr_pipeline.models.prompt import PromptTokens
from llm_ctr_pipeline.models.shared_prefix import UnsupportedModelError

MakeLm = Callable[..., PreTrainedModel]
MakeModel = Callable[..., LlmCtr]

TOKENS = PromptTokens(prompt=(5, 9, 2, 16, 9, 14), suffix=(3,), answers=(15, 16))
USED = [2, 3, 5, 9, 14, 15, 16]
IDS_BF = torch.tensor([[0, 1, 2], [2, 4, 3], [1, 0, 0], [2, 2, 1]])
LABELS_B = torch.tensor([0.0, 1.0, 1.0, 0.0])
TIED_UNTIED_BIASED = pytest.mark.parametrize("architecture", ["qwen3", "llama", "gpt2", "phi"])


def train_a_step(model: LlmCtr, lr: float) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    F.binary_cross_entropy_with_logits(model(IDS_BF), LABELS_B).backward()
    optimizer.step()
    optimizer.zero_grad()


def vocabulary(model: LlmCtr) -> Tensor:
    return model.llm.backbone.get_input_embeddings().weight


def test_two_forwards_in_one_step_agree(make_model: MakeModel) -> None:
    model = make_model()
    assert torch.equal(model(IDS_BF), model(IDS_BF))


def test_the_prompt_is_read_from_the_current_weights(make_model: MakeModel) -> None:
    model = make_model(tokens=TOKENS)
    before = copy.deepcopy(model)
    train_a_step(model, lr=10.0)
    after_B = model(IDS_BF).detach()
    # Of all that the step changed, only the fixed text's rows go back to what they were. The
    # answers' own rows stay, which a tied model also multiplies its last hidden state with.
    fixed = [USED.index(token) for token in (2, 3, 5, 9, 14)]
    with torch.no_grad():
        vocabulary(model)[fixed] = vocabulary(before)[fixed]
        with_old_prompt_B = model(IDS_BF)
    assert (after_B - with_old_prompt_B).abs().min() > 1e-3
    # And a model that never saw the old weights agrees with the one that trained away from them.
    train_a_step(before, lr=10.0)
    fresh = before.describe().build()
    fresh.load_state_dict(before.state_dict())
    torch.testing.assert_close(fresh(IDS_BF), after_B, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("part", ["k_norm", "v_proj"])
def test_no_layer_keeps_keys_or_values(make_model: MakeModel, layer: int, part: str) -> None:
    model = make_model()
    before_B = model(IDS_BF).detach()
    weight = getattr(model.llm.backbone.layers[layer].self_attn, part).weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(3.0)
        assert (model(IDS_BF) - before_B).abs().max() > 1e-3
        weight.copy_(kept)
        assert torch.equal(model(IDS_BF), before_B)


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        *[(name, {}) for name in ("qwen3", "llama", "gpt2", "phi", "cohere", "granite")],
        ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": 2.0}),
    ],
)
def test_trained_weights_go_back_into_the_full_model(
    make_causal_lm: MakeLm, make_model: MakeModel, architecture: str, changes: dict[str, object]
) -> None:
    causal_lm = make_causal_lm(architecture, **changes)
    original = copy.deepcopy(causal_lm)
    model = make_model(causal_lm, TOKENS)
    for _ in range(3):
        train_a_step(model, lr=0.3)
    full = copy.deepcopy(original)
    assert model.llm.write_into(full) is full
    oracle = RepeatedPromptCtr(copy.deepcopy(model), full, TOKENS)
    stale = RepeatedPromptCtr(copy.deepcopy(model), original, TOKENS)
    with torch.no_grad():
        expected_B2 = model.answer_logits(IDS_BF)
        torch.testing.assert_close(oracle.answer_logits(IDS_BF), expected_B2, rtol=1e-5, atol=1e-5)
        assert (stale.answer_logits(IDS_BF) - expected_B2).abs().max() > 1e-2


@TIED_UNTIED_BIASED
def test_vocabulary_rows_not_in_use_stay_as_they_were(
    make_causal_lm: MakeLm, make_model: MakeModel, architecture: str
) -> None:
    causal_lm = make_causal_lm(architecture)
    original = copy.deepcopy(causal_lm)
    model = make_model(causal_lm, TOKENS)
    train_a_step(model, lr=0.3)
    full = model.llm.write_into(copy.deepcopy(original))
    tied = model.llm.answer_rows is None
    # Answer 15 is no part of the fixed text, so an untied model's step leaves its input row alone.
    for get, used in (
        ("get_input_embeddings", USED if tied else [2, 3, 5, 9, 14, 16]),
        ("get_output_embeddings", USED if tied else [15, 16]),
    ):
        before, after = getattr(original, get)().weight, getattr(full, get)().weight
        changed = [row for row in range(40) if not torch.equal(before[row], after[row])]
        assert changed == used
    assert (full.get_input_embeddings().weight is full.get_output_embeddings().weight) == tied


def test_a_model_that_hands_no_keywords_to_its_layers_is_refused(make_causal_lm: MakeLm) -> None:
    with pytest.raises(NotImplementedError, match="GPTJBlock gets no keywords"):
        LlmDecoder.from_causal_lm(make_causal_lm("gptj"), TOKENS)


def test_a_model_that_changes_its_logits_by_little_is_refused(make_causal_lm: MakeLm) -> None:
    causal_lm = make_causal_lm("qwen3")

    class Shifted(type(causal_lm)):  # type: ignore[misc]
        def forward(self, *args: object, **kwargs: object) -> CausalLMOutputWithPast:
            output = super().forward(*args, **kwargs)
            return replace_logits(output, output.logits * 1.001)

    causal_lm.__class__ = Shifted
    with pytest.raises(
        UnsupportedModelError, match=r"Shifted .* not reproduce \(logits .* instead of "
    ):
        LlmDecoder.from_causal_lm(causal_lm, TOKENS)


def test_the_check_leaves_the_weights_as_they_were(make_causal_lm: MakeLm) -> None:
    causal_lm = make_causal_lm("phi")
    before = copy.deepcopy(causal_lm)
    decoder = LlmDecoder.from_causal_lm(causal_lm, TOKENS)
    full = decoder.write_into(copy.deepcopy(before)).state_dict()
    for name, weight in before.state_dict().items():
        assert torch.equal(full[name], weight), name


def test_a_tokenizer_of_another_model_is_refused(make_causal_lm: MakeLm) -> None:
    tokens = replace(TOKENS, suffix=(40,))
    with pytest.raises(SettingsError, match="has 40 tokens and its tokenizer gives id 40: the tok"):
        LlmDecoder.from_causal_lm(make_causal_lm(), tokens)


def test_a_row_longer_than_the_models_positions_is_refused(make_causal_lm: MakeLm) -> None:
    fits = make_causal_lm("gpt2", n_positions=12)
    assert LlmDecoder.from_causal_lm(fits, TOKENS, fields=5) is not None
    with pytest.raises(UnsupportedModelError, match=r"are 13 tokens, .* 12 at most \(positions\)"):
        LlmDecoder.from_causal_lm(make_causal_lm("gpt2", n_positions=12), TOKENS, fields=6)


def replace_logits(output: CausalLMOutputWithPast, logits: Tensor) -> CausalLMOutputWithPast:
    return CausalLMOutputWithPast(logits=logits, past_key_values=output.past_key_values)


@pytest.mark.parametrize(
    "tokens", [TOKENS, replace(TOKENS, suffix=())], ids=["suffix", "no suffix"]
)
def test_only_the_rows_in_use_are_kept_and_in_ascending_order(
    make_causal_lm: MakeLm, tokens: PromptTokens
) -> None:
    causal_lm = make_causal_lm("qwen3")
    full = causal_lm.get_input_embeddings().weight.detach().clone()
    decoder = LlmDecoder.from_causal_lm(causal_lm, tokens)
    used = USED if tokens.suffix else [token for token in USED if token != 3]
    kept = decoder.backbone.get_input_embeddings().weight
    assert torch.equal(kept, full[used])
    assert torch.equal(kept[decoder.prompt_P], full[list(tokens.prompt)])
    assert torch.equal(kept[decoder.answers_2], full[[15, 16]])
    assert torch.equal(kept[decoder.suffix_S], full[list(tokens.suffix)])


@TIED_UNTIED_BIASED
def test_answers_are_not_rounded_under_autocast(
    make_causal_lm: MakeLm, make_model: MakeModel, architecture: str
) -> None:
    model = make_model(make_causal_lm(architecture), TOKENS)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits_B2 = model.answer_logits(IDS_BF)
    assert logits_B2.dtype == torch.float32
    assert (logits_B2 != logits_B2.bfloat16()).all()

"""What the decoder's answer attends to."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import PreTrainedModel

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.prompt import PromptTokens
from llm_ctr_pipeline.serving.attention import attention_of_answer, positions
from tests.baselines import describe
from tests.conftest import FIELD_SIZES, TOKENS
from tests.decoders import EVERYTHING
from tests.training.test_checkpoint import make_checkpoint

WITH_SUFFIX = replace(TOKENS, suffix=(3, 7))
IDS_BF = torch.tensor([[0, 4, 1], [2, 0, 3], [1, 1, 1], [2, 3, 0]])
MakeModel = Callable[..., LlmCtr]


@pytest.mark.parametrize("tokens", [TOKENS, WITH_SUFFIX], ids=["no suffix", "suffix"])
@pytest.mark.parametrize(
    ("architecture", "parts"),
    [("qwen3", {}), ("qwen3", EVERYTHING), ("llama", {}), ("gemma", {}), ("gpt2", {})],
    ids=["qwen3", "everything", "llama", "gemma", "gpt2"],
)
def test_the_answer_whose_attention_is_shown_is_the_models(
    make_causal_lm: Callable[..., PreTrainedModel],
    make_model: MakeModel,
    tokens: PromptTokens,
    architecture: str,
    parts: dict[str, Any],
) -> None:
    model = make_model(make_causal_lm(architecture), tokens, **parts)
    model.train()
    found = attention_of_answer(model, IDS_BF)
    assert model.training
    with torch.inference_mode():
        expected_B2 = model.eval().answer_logits(IDS_BF)
    tolerance = 3e-6 * float(expected_B2.abs().max())
    torch.testing.assert_close(found.logits_B2, expected_B2, rtol=0, atol=tolerance)
    seen = len(tokens.prompt) + len(FIELD_SIZES) + len(tokens.suffix)
    assert found.weights_LBQN.shape == (2, len(IDS_BF), 4, seen)
    torch.testing.assert_close(found.weights_LBQN.sum(-1), torch.ones(2, len(IDS_BF), 4))
    assert (found.weights_LBQN > 0).all()  # none that the answer does not see


def test_attention_is_on_the_token_that_the_answering_one_looks_for(
    make_causal_lm: Callable[..., PreTrainedModel], make_model: MakeModel
) -> None:
    model = make_model(make_causal_lm("llama", num_hidden_layers=1), WITH_SUFFIX).eval()
    attention = model.llm.backbone.layers[0].self_attn
    with torch.no_grad():
        embedding = model.llm.backbone.get_input_embeddings().weight
        embedding[:, 0] = 0.0
        embedding[model.llm.suffix_S[-1], 0] = 9.0  # it asks
        embedding[model.llm.prompt_P[2], 0] = 9.0  # and is answered
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.zero_()
            # The channel of each head that positions turn least.
            projection.weight[attention.head_dim // 2 - 1 :: attention.head_dim, 0] = 9.0
    weights_LBQN = attention_of_answer(model, IDS_BF).weights_LBQN
    assert (weights_LBQN[..., 2] > 0.4).all()  # itself has as much
    assert (weights_LBQN[..., [2, -1]].sum(-1) > 0.99).all()


def test_positions_are_named(make_model: MakeModel) -> None:
    checkpoint = make_checkpoint(make_model(tokens=WITH_SUFFIX, embedding_beside_gen=True))
    named = positions(checkpoint)
    counts = {"prompt": len(TOKENS.prompt), "feature token": 3, "suffix": 2}
    assert named["part"].value_counts(sort=False).to_dict() == counts
    of_fields = named.loc[named["part"] == "feature token", "token"]
    assert of_fields.tolist() == [field.name for field in checkpoint.feature_map.fields]
    assert checkpoint.tokenizer is not None
    texts = [checkpoint.tokenizer.decode([token]) for token in (*TOKENS.prompt, 3, 7)]
    assert named.loc[named["part"] != "feature token", "token"].tolist() == texts
    assert isinstance(named.index, pd.RangeIndex)


def test_tokens_of_generated_features_alone_are_no_fields(make_model: MakeModel) -> None:
    named = positions(make_checkpoint(make_model()))
    of_fields = named.loc[named["part"] == "feature token", "token"]
    assert of_fields.tolist() == ["token 1", "token 2", "token 3"]


def test_a_model_without_a_language_model_is_refused() -> None:
    with pytest.raises(SettingsError, match="without a language model"):
        attention_of_answer(describe("deepfm").build(), IDS_BF)

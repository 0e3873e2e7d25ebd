"""What a trained decoder's answer attends to: the prompt, and each feature token of a row.

The kernels that the model is computed with give no attention weights. So the same weights are put
into transformers' own eager implementation, with the prompt repeated for each row: slow, and only
for some rows to look at.

Shape legend: B rows, F fields, P prompt tokens, S suffix tokens, N = P + F + S positions a row,
L layers, Q query heads.
"""

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
from llm_ctr_pipeline.training.checkpoint import Checkpoint, CtrModel

PROMPT, FEATURE, SUFFIX = "prompt", "feature token", "suffix"


@dataclass(frozen=True)
class AnswerAttention:
    """What the last position of each row attends to; it is the one that answers.

    Attributes:
        weights_LBQN: Attention weights of each layer and head, float32 `[L, B, Q, N]`; they sum to
            1 over the positions, of which the last is the answering one itself.
        logits_B2: Logits of "0" and "1" of this computation, float32 `[B, 2]`: the model's own
            `answer_logits` but for rounding.
    """

    weights_LBQN: Tensor
    logits_B2: Tensor


def attention_of_answer(model: CtrModel, ids_BF: Tensor) -> AnswerAttention:
    """Compute what the answers to some rows attend to.

    Args:
        model: A trained model with a language model; it stays as it is.
        ids_BF: Ids within each field, int `[B, F]`.

    Raises:
        SettingsError: The model has no language model.
    """
    if not isinstance(model, LlmCtr):
        raise SettingsError("a model without a language model attends to nothing: take another")
    was_training = model.training
    model.eval()
    with torch.no_grad():
        inputs_BNH = _with_prompt(model.llm, model.feature_tokens(model.embedding(ids_BF)))
        outputs = _eager(model.llm)(
            inputs_embeds=inputs_BNH, use_cache=False, output_attentions=True
        )
        logits_B2 = model.llm.answer(outputs.last_hidden_state[:, -1])
    model.train(was_training)
    return AnswerAttention(
        torch.stack([weights_BQNN[:, :, -1].float() for weights_BQNN in outputs.attentions]),
        logits_B2,
    )


def positions(checkpoint: Checkpoint) -> pd.DataFrame:
    """Say what stands at each position that a row's answer sees.

    A feature token has its field's name where the projector reads the field's embedding beside the
    generated features. Generated features alone are of all fields, so their tokens have numbers.

    Returns:
        Columns `part` ("prompt", "feature token" or "suffix") and `token`, one row a position.

    Raises:
        SettingsError: The model has no language model.
    """
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    if model.kind != "llm_ctr" or tokenizer is None:
        raise SettingsError(f"{checkpoint.training.path} has no language model: take another path")
    names = checkpoint.feature_map.names
    if not model.config.embedding_beside_gen:
        names = tuple(f"token {number}" for number in range(1, len(names) + 1))
    parts = {PROMPT: model.llm.tokens.prompt, FEATURE: names, SUFFIX: model.llm.tokens.suffix}
    rows = [
        (part, token if isinstance(token, str) else tokenizer.decode([token]))
        for part, tokens in parts.items()
        for token in tokens
    ]
    return pd.DataFrame(rows, columns=["part", "token"])


def _with_prompt(llm: LlmDecoder, features_BFH: Tensor) -> Tensor:
    """Put the prompt before, and the suffix behind, each row's tokens: `[B, N, H]`."""
    row_BTH = llm.with_suffix(features_BFH)
    prompt_PH = llm.backbone.get_input_embeddings()(llm.prompt_P).to(row_BTH.dtype)
    return torch.cat([prompt_PH.expand(len(row_BTH), -1, -1), row_BTH], dim=1)


def _eager(llm: LlmDecoder) -> PreTrainedModel:
    """The language model as transformers computes it by itself, with the same weights."""
    config = llm.describe().trimmed_config()
    eager: PreTrainedModel = AutoModel.from_config(config, attn_implementation="eager")
    eager.load_state_dict(llm.backbone.state_dict())
    return eager.to(llm.backbone.device).eval()

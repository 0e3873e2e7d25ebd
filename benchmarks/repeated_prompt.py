"""The obvious implementation: the prompt repeated for every row, the logits of every token.

It is kept as the tests' oracle and as the benchmarks' opponent; nothing trains with it.

Shape legend: B rows, F fields, H hidden size, P prompt tokens, S suffix tokens, V vocabulary.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.prompt import PromptTokens


class RepeatedPromptCtr(nn.Module):
    """What `LlmCtr` computes, written down plainly.

    Args:
        model: Model whose embedding, GEN encoder and projector are used (shared, not copied).
        causal_lm: The full language model, with its whole vocabulary.
        tokens: The fixed text.
    """

    prompt_P: Tensor
    suffix_S: Tensor

    def __init__(self, model: LlmCtr, causal_lm: PreTrainedModel, tokens: PromptTokens) -> None:
        super().__init__()
        self.embedding = model.embedding
        self.gen = model.gen
        self.projector = model.projector
        self.causal_lm = causal_lm
        self.answers = list(tokens.answers)
        self.register_buffer("prompt_P", torch.tensor(tokens.prompt))
        self.register_buffer("suffix_S", torch.tensor(tokens.suffix, dtype=torch.long))

    def answer_logits(self, ids_BF: Tensor) -> Tensor:
        """Logits of the tokens "0" and "1", float32 `[B, 2]`, from ids, int `[B, F]`."""
        features_BFH = self.projector(self.gen(self.embedding(ids_BF)))
        embed = self.causal_lm.get_input_embeddings()
        prompt_BPH = embed(self.prompt_P).expand(len(ids_BF), -1, -1)
        suffix_BSH = embed(self.suffix_S).expand(len(ids_BF), -1, -1)
        inputs = torch.cat([prompt_BPH, features_BFH, suffix_BSH], dim=1)
        logits_BTV: Tensor = self.causal_lm(inputs_embeds=inputs, use_cache=False).logits
        return logits_BTV[:, -1, self.answers].float()

    def forward(self, ids_BF: Tensor) -> Tensor:
        """Log-odds of a click, float32 `[B]`, from ids, int `[B, F]`."""
        logits_B2 = self.answer_logits(ids_BF)
        return logits_B2[:, 1] - logits_B2[:, 0]

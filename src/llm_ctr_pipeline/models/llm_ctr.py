"""The end-to-end model: feature ids → embedding → GEN → projector → language model → click.

Shape legend: B rows, F fields, D embedding size, H the language model's hidden size.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.models.baselines.deepfm import DeepFm
from llm_ctr_pipeline.models.layers import FieldEmbedding, GenEncoder, Projector
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder, LlmDescription
from llm_ctr_pipeline.models.loading import load_llm
from llm_ctr_pipeline.models.prompt import tokenize_prompt
from llm_ctr_pipeline.models.settings import LlmCtrSettings, LlmSettings


class LlmCtr(nn.Module):
    """Click-through rate with a language model as the decoder.

    Args:
        settings: Sizes of the parts before the language model, and the prompt.
        field_sizes: Number of ids of each of the F fields, id 0 ("unknown") included.
        llm: The decoder.
    """

    def __init__(
        self, settings: LlmCtrSettings, field_sizes: Sequence[int], llm: LlmDecoder
    ) -> None:
        super().__init__()
        self.settings = settings
        self.field_sizes = tuple(field_sizes)
        width, hidden = settings.embedding_dim, llm.backbone.config.hidden_size
        self.embedding = FieldEmbedding(field_sizes, width, settings.embedding_init_std)
        self.gen = GenEncoder(len(field_sizes), width, settings.gen_gamma)
        self.projector = Projector(width, settings.projector_dim, hidden)
        self.llm = llm

    @classmethod
    def create(
        cls, settings: LlmCtrSettings, field_sizes: Sequence[int], source: LlmSettings, seed: int
    ) -> tuple["LlmCtr", PreTrainedTokenizerBase]:
        """Make a model to train: pretrained or random language model, random other parts.

        Args:
            settings: The model's own settings.
            field_sizes: Number of ids of each field.
            source: Which language model.
            seed: Seed of all random weights.

        Returns:
            The model, in float32 on the CPU, and the language model's tokenizer.

        Raises:
            LlmNotFoundError: The pretrained language model could not be loaded.
            NotImplementedError: The language model's architecture is not served.
        """
        prompt, suffix = settings.prompt, settings.prompt_suffix
        causal_lm, tokenizer = load_llm(source, prompt + suffix, seed)
        tokens = tokenize_prompt(tokenizer, prompt, suffix)
        torch.manual_seed(seed)
        decoder = LlmDecoder.from_causal_lm(causal_lm, tokens, len(field_sizes))
        return cls(settings, field_sizes, decoder), tokenizer

    def take_encoder(self, baseline: DeepFm) -> None:
        """Start from a trained baseline's embedding and GEN encoder.

        Ids that the baseline does not have keep the random vectors they start with.

        Args:
            baseline: Its feature map is this model's, or the one that this model's extends.

        Raises:
            SettingsError: The baseline has no GEN encoder, or its encoder is of another shape.
        """
        own, theirs = (
            (model.settings.embedding_dim, model.settings.gen_gamma, len(model.field_sizes))
            for model in (self, baseline)
        )
        if baseline.gen is None or own != theirs:
            raise SettingsError(
                "the encoder of deepfm cannot be taken over: it has embedding size, gamma and "
                f"number of fields {theirs}{'' if baseline.gen else ' and no GEN encoder'}, and "
                f"{own} with a GEN encoder is needed; train deepfm again with the present "
                "settings and deepfm.network.gen=true"
            )
        self.embedding.take_over(baseline.embedding)
        self.gen.load_state_dict(baseline.gen.state_dict())

    def describe(self) -> "LlmCtrDescription":
        """Describe the model, without its weights."""
        return LlmCtrDescription(
            config=self.settings, field_sizes=self.field_sizes, llm=self.llm.describe()
        )

    def answer_logits(self, ids_BF: Tensor) -> Tensor:
        """Compute the logits of "0" and "1", float32 `[B, 2]`, from ids, int `[B, F]`."""
        features_BFD = self.gen(self.embedding(ids_BF))
        logits_B2: Tensor = self.llm(self.projector(features_BFD))
        return logits_B2

    def forward(self, ids_BF: Tensor) -> Tensor:
        """Compute the log-odds of a click.

        The softmax over the two answers is the sigmoid of their difference, so binary
        cross-entropy of this value is cross-entropy over the two answer logits.

        Args:
            ids_BF: Ids within each field, int32 or int64, `[B, F]`.

        Returns:
            Logit of "1" minus logit of "0", float32, `[B]`.
        """
        logits_B2 = self.answer_logits(ids_BF)
        return logits_B2[:, 1] - logits_B2[:, 0]


class LlmCtrDescription(Frozen):
    """All that builds the model again, but for its weights.

    Attributes:
        kind: Tells the descriptions of models apart.
        config: The model's own settings.
        field_sizes: Number of ids of each field.
        llm: The decoder.
    """

    kind: Literal["llm_ctr"] = "llm_ctr"
    config: LlmCtrSettings
    field_sizes: tuple[int, ...]
    llm: LlmDescription

    def build(self) -> LlmCtr:
        """Build the model's frame, with random weights."""
        return LlmCtr(self.config, self.field_sizes, self.llm.build())

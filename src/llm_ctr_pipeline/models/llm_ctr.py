"""The end-to-end model: feature ids → embedding → GEN → projector → language model → click.

Beside the language model, terms over the same embeddings may have their say (a hybrid).

Shape legend: B rows, F fields, D embedding size, H the language model's hidden size.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.models.baselines.deepfm import DeepFm, Terms
from llm_ctr_pipeline.models.layers import FieldEmbedding, GenEncoder, Projector, RowDropout
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder, LlmDescription
from llm_ctr_pipeline.models.loading import load_llm
from llm_ctr_pipeline.models.prompt import tokenize_prompt
from llm_ctr_pipeline.models.settings import LlmCtrSettings, LlmSettings, TermsSettings


class LlmCtr(nn.Module):
    """Click-through rate with a language model as the decoder.

    Args:
        settings: Sizes of the parts before the language model, and the prompt.
        field_sizes: Number of ids of each of the F fields, id 0 ("unknown") included.
        llm: The decoder.
        terms: What is added to its log-odds; None as `none`.
    """

    def __init__(
        self,
        settings: LlmCtrSettings,
        field_sizes: Sequence[int],
        llm: LlmDecoder,
        terms: TermsSettings | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.field_sizes = tuple(field_sizes)
        fields, width = len(field_sizes), settings.embedding_dim
        self.embedding = FieldEmbedding(field_sizes, width, settings.embedding_init_std)
        # Of what the decoder reads; the terms, which have a dropout of their own, read all.
        self.embedding_dropout = RowDropout(settings.embedding_dropout, (fields, width))
        self.gen = GenEncoder(fields, width, settings.gen_gamma)
        self.projector = make_projector(settings, fields, llm.backbone.config.hidden_size)
        self.llm = llm
        self.terms = make_terms(terms, settings, field_sizes)

    @classmethod
    def create(
        cls,
        settings: LlmCtrSettings,
        field_sizes: Sequence[int],
        source: LlmSettings,
        seed: int,
        terms: TermsSettings | None = None,
    ) -> tuple["LlmCtr", PreTrainedTokenizerBase]:
        """Make a model to train: pretrained or random language model, random other parts.

        Args:
            settings: The model's own settings.
            field_sizes: Number of ids of each field.
            source: Which language model.
            seed: Seed of all random weights.
            terms: What is added to the decoder's log-odds; None as `none`.

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
        return cls(settings, field_sizes, decoder, terms), tokenizer

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
            config=self.settings,
            field_sizes=self.field_sizes,
            llm=self.llm.describe(),
            terms=None if self.terms is None else self.terms.settings,
        )

    def answer_logits(self, ids_BF: Tensor) -> Tensor:
        """Compute the decoder's logits of "0" and "1", float32 `[B, 2]`, from ids, int `[B, F]`."""
        return self._decode(self.embedding(ids_BF))

    def feature_tokens(self, embedded_BFD: Tensor) -> Tensor:
        """Make what the decoder reads, float `[B, F, H]`, of embeddings, float `[B, F, D]`."""
        embedded_BFD = self.embedding_dropout(embedded_BFD)
        features_BFI = self.gen(embedded_BFD)
        if self.settings.embedding_beside_gen:
            features_BFI = torch.cat([features_BFI, embedded_BFD], dim=2)
        tokens_BFH: Tensor = self.projector(features_BFI)
        return tokens_BFH

    def _decode(self, embedded_BFD: Tensor) -> Tensor:
        logits_B2: Tensor = self.llm(self.feature_tokens(embedded_BFD))
        return logits_B2

    def forward(self, ids_BF: Tensor) -> Tensor:
        """Compute the log-odds of a click.

        The softmax over the two answers is the sigmoid of their difference, so binary
        cross-entropy of this value is cross-entropy over the two answer logits.

        Args:
            ids_BF: Ids within each field, int32 or int64, `[B, F]`.

        Returns:
            Logit of "1" minus logit of "0", and the terms if there are any, float32, `[B]`.
        """
        embedded_BFD = self.embedding(ids_BF)
        logits_B2 = self._decode(embedded_BFD)
        log_odds_B = logits_B2[:, 1] - logits_B2[:, 0]
        return log_odds_B if self.terms is None else log_odds_B + self.terms(ids_BF, embedded_BFD)


class LlmCtrDescription(Frozen):
    """All that builds the model again, but for its weights.

    Attributes:
        kind: Tells the descriptions of models apart.
        config: The model's own settings.
        field_sizes: Number of ids of each field.
        llm: The decoder.
        terms: What is added to its log-odds; None for nothing.
    """

    kind: Literal["llm_ctr"] = "llm_ctr"
    config: LlmCtrSettings
    field_sizes: tuple[int, ...]
    llm: LlmDescription
    terms: TermsSettings | None = None

    def build(self) -> LlmCtr:
        """Build the model's frame, with random weights."""
        return LlmCtr(self.config, self.field_sizes, self.llm.build(), self.terms)


def make_projector(settings: LlmCtrSettings, fields: int, hidden: int) -> Projector:
    """Make the part between F fields and a language model of hidden size H."""
    return Projector(
        fields,
        settings.embedding_dim * (2 if settings.embedding_beside_gen else 1),
        settings.projector_dim,
        hidden,
        per_field=settings.projector_per_field,
        vectors=settings.field_vectors,
        dropout=settings.projector_dropout,
        token_dropout=settings.token_dropout,
    )


def make_terms(
    terms: TermsSettings | None, settings: LlmCtrSettings, field_sizes: Sequence[int]
) -> Terms | None:
    """Make what is added to the decoder's log-odds, if anything is."""
    if terms is None or terms.kind == "none":
        return None
    return Terms(terms, settings, field_sizes)

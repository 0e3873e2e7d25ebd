"""The end-to-end model: feature ids → embedding → GEN → projector → language model → click.

Shape legend: B rows, F fields, D embedding size, H the language model's hidden size.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedTokenizerBase

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.models.deepfm import DeepFm
from llm_ctr_pipeline.models.layers import FieldEmbedding, GenEncoder, Projector
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
from llm_ctr_pipeline.models.loading import LlmSource, load_llm
from llm_ctr_pipeline.models.prompt import PromptTokens, tokenize_prompt


@dataclass(frozen=True)
class LlmCtrConfig:
    """The model's own settings, apart from the language model's.

    Attributes:
        embedding_dim: Embedding size D.
        embedding_init_std: Standard deviation the embedding table starts from.
        gen_gamma: Scale γ of the generated features.
        projector_dim: Width of the projector's layer between.
        prompt: Text before the feature tokens.
        prompt_suffix: Text after the feature tokens; may be empty.
    """

    embedding_dim: int
    embedding_init_std: float
    gen_gamma: float
    projector_dim: int
    prompt: str
    prompt_suffix: str


class LlmCtr(nn.Module):
    """Click-through rate with a language model as the decoder.

    Args:
        config: Sizes of the parts before the language model.
        field_sizes: Number of ids of each of the F fields, id 0 ("unknown") included.
        llm: The decoder.
    """

    def __init__(self, config: LlmCtrConfig, field_sizes: Sequence[int], llm: LlmDecoder) -> None:
        super().__init__()
        self.config = config
        self.field_sizes = tuple(field_sizes)
        width = config.embedding_dim
        self.embedding = FieldEmbedding(field_sizes, width, config.embedding_init_std)
        self.gen = GenEncoder(len(field_sizes), width, config.gen_gamma)
        self.projector = Projector(width, config.projector_dim, llm.hidden_size)
        self.llm = llm

    @classmethod
    def create(
        cls, config: LlmCtrConfig, field_sizes: Sequence[int], source: LlmSource, seed: int
    ) -> tuple["LlmCtr", PreTrainedTokenizerBase]:
        """Make a model to train: pretrained or random language model, random other parts.

        Args:
            config: The model's own settings.
            field_sizes: Number of ids of each field.
            source: Where the language model comes from.
            seed: Seed of all random weights.

        Returns:
            The model, in float32 on the CPU, and the language model's tokenizer.

        Raises:
            LlmNotFoundError: The pretrained language model could not be loaded.
            NotImplementedError: The language model's architecture is not served.
        """
        causal_lm, tokenizer = load_llm(source, config.prompt + config.prompt_suffix, seed)
        tokens = tokenize_prompt(tokenizer, config.prompt, config.prompt_suffix)
        torch.manual_seed(seed)
        return cls(config, field_sizes, LlmDecoder.from_causal_lm(causal_lm, tokens)), tokenizer

    def take_encoder(self, baseline: DeepFm) -> None:
        """Start from a trained baseline's embedding and GEN encoder.

        Ids that the baseline does not have keep the random vectors they start with.

        Args:
            baseline: Its feature map is this model's, or the one that this model's extends.

        Raises:
            SettingsError: The baseline has no GEN encoder, or its encoder is of another shape.
        """
        own = (self.config.embedding_dim, self.config.gen_gamma, len(self.field_sizes))
        config = baseline.config
        theirs = (config.embedding_dim, config.gen_gamma, len(baseline.field_sizes))
        if baseline.gen is None or own != theirs:
            raise SettingsError(
                "the encoder of deepfm cannot be taken over: it has embedding size, gamma and "
                f"number of fields {theirs}{'' if baseline.gen else ' and no GEN encoder'}, and "
                f"{own} with a GEN encoder is needed; train deepfm again with the present "
                "settings and deepfm.network.gen=true"
            )
        self.embedding.take_over(baseline.embedding)
        self.gen.load_state_dict(baseline.gen.state_dict())

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "LlmCtr":
        """Build the frame, with random weights, of the model that `describe` described."""
        llm = description["llm"]
        tokens = PromptTokens(**{name: tuple(ids) for name, ids in llm["tokens"].items()})
        decoder = LlmDecoder.from_config(
            AutoConfig.for_model(**llm["config"]), tokens, tied=llm["tied"], bias=llm["bias"]
        )
        config = LlmCtrConfig(**description["config"])
        return cls(config, description["field_sizes"], decoder)

    def describe(self) -> dict[str, Any]:
        """All that `from_description` needs to build the model again, as JSON types."""
        llm_config = json.loads(self.llm.backbone.config.to_json_string(use_diff=False))
        # Where the pretrained weights lay on the machine that trained says nothing elsewhere.
        llm_config.pop("_name_or_path", None)
        return {
            "config": asdict(self.config),
            "field_sizes": list(self.field_sizes),
            "llm": {
                "config": llm_config,
                "tokens": asdict(self.llm.tokens),
                "tied": self.llm.answer_rows is None,
                "bias": self.llm.answer_bias is not None,
            },
        }

    def answer_logits(self, ids_BF: Tensor) -> Tensor:
        """Logits of the tokens "0" and "1", float32 `[B, 2]`, from ids, int `[B, F]`."""
        features_BFD = self.gen(self.embedding(ids_BF))
        logits_B2: Tensor = self.llm(self.projector(features_BFD))
        return logits_B2

    def forward(self, ids_BF: Tensor) -> Tensor:
        """Log-odds of a click.

        The softmax over the two answers is the sigmoid of their difference, so binary
        cross-entropy of this value is cross-entropy over the two answer logits.

        Args:
            ids_BF: Ids within each field, int32 or int64, `[B, F]`.

        Returns:
            Logit of "1" minus logit of "0", float32, `[B]`.
        """
        logits_B2 = self.answer_logits(ids_BF)
        return logits_B2[:, 1] - logits_B2[:, 0]

"""Settings of the models. Reading them must not import torch, which takes seconds."""

from typing import Literal, Self

from pydantic import Field, model_validator

from llm_ctr_pipeline.bounds import Layers, Real, Share, Size, Text
from llm_ctr_pipeline.frozen import Frozen


class EncoderSettings(Frozen):
    """The parts that all models have: embedding and GEN encoder."""

    embedding_dim: Size = Field(description="Embedding size D.")
    embedding_init_std: Real = Field(
        gt=0, le=10, description="Standard deviation embeddings start with."
    )
    gen_gamma: Real = Field(gt=0, le=1000, description="Scale of the GEN encoder's features.")


class LlmCtrSettings(EncoderSettings):
    """The parts before the language model, and the prompt."""

    projector_dim: Size = Field(description="Width of the projector's layer between.")
    prompt: Text = Field(min_length=1, description="Text before the feature tokens.")
    prompt_suffix: Text = Field(description="Text after the feature tokens.")


class ArchitectureSettings(Frozen):
    """A language model with random weights, by transformers' own names."""

    model_type: str = Field(
        min_length=1, max_length=64, description="An architecture of transformers: qwen3, llama."
    )
    vocab_size: Size = Field(ge=258, description="Most tokens of its tokenizer; 256 are bytes.")
    hidden_size: Size = Field(ge=2)
    intermediate_size: Size
    num_hidden_layers: Layers
    num_attention_heads: Size
    num_key_value_heads: Size
    head_dim: Size = Field(multiple_of=2)
    tie_word_embeddings: bool

    @model_validator(mode="after")
    def _heads_share_evenly(self) -> Self:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads is {self.num_attention_heads}, no multiple of "
                f"num_key_value_heads, {self.num_key_value_heads}"
            )
        return self


class LlmSettings(Frozen):
    """The language model and its attention kernel."""

    pretrained: str | None = Field(min_length=1, description="Name on the hub, or a folder.")
    architecture: ArchitectureSettings | None = Field(description="Or: random weights.")
    attention: Literal["auto", "flash_attention_2", "sdpa", "flex_attention"]

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.pretrained is None) == (self.architecture is None):
            raise ValueError(
                "llm needs either `pretrained` (a name or a folder) or `architecture` (a model "
                "with random weights), and the other one null"
            )
        return self


class DeepFmNetworkSettings(Frozen):
    """DeepFM's own parts."""

    gen: bool = Field(description="Whether its FM term takes generated features.")
    hidden_sizes: tuple[Size, ...] = Field(min_length=1, description="Widths of the MLP's layers.")
    dropout: Share = Field(description="Share of hidden activations dropped.")
    batch_norm: bool = Field(description="Whether hidden layers are normalised over the batch.")


class DeepFmSettings(DeepFmNetworkSettings, EncoderSettings):
    """All of DeepFM's parts; `gen_gamma` is unused where `gen` is false."""

    @classmethod
    def join(cls, encoder: EncoderSettings, network: DeepFmNetworkSettings) -> Self:
        """Put together what all models share and DeepFM's own parts."""
        shared = encoder.model_dump(include=set(EncoderSettings.model_fields))
        return cls(**shared, **network.model_dump())

"""Settings of the models. Reading them must not import torch, which takes seconds."""

from typing import Literal, Self

from pydantic import Field, model_validator

from llm_ctr_pipeline.frozen import Frozen


class EncoderSettings(Frozen):
    """The parts that all models have: embedding and GEN encoder."""

    embedding_dim: int = Field(ge=1, description="Embedding size D.")
    embedding_init_std: float = Field(gt=0, description="Standard deviation embeddings start with.")
    gen_gamma: float = Field(gt=0, description="Scale of the GEN encoder's features.")


class LlmCtrSettings(EncoderSettings):
    """The parts before the language model, and the prompt."""

    projector_dim: int = Field(ge=1, description="Width of the projector's layer between.")
    prompt: str = Field(min_length=1, description="Text before the feature tokens.")
    prompt_suffix: str = Field(description="Text after the feature tokens.")


class ArchitectureSettings(Frozen):
    """A language model with random weights, by transformers' own names."""

    model_type: str = Field(description="An architecture of transformers: qwen3, llama.")
    vocab_size: int = Field(ge=258, description="Most tokens of its tokenizer; 256 are bytes.")
    hidden_size: int = Field(ge=2)
    intermediate_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int = Field(ge=1)
    head_dim: int = Field(ge=2)
    tie_word_embeddings: bool


class LlmSettings(Frozen):
    """The language model and its attention kernel."""

    pretrained: str | None = Field(description="Name on the hub, or a folder.")
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
    hidden_sizes: tuple[int, ...] = Field(min_length=1, description="Widths of the MLP's layers.")
    dropout: float = Field(ge=0, lt=1, description="Share of hidden activations dropped.")


class DeepFmSettings(DeepFmNetworkSettings, EncoderSettings):
    """All of DeepFM's parts; `gen_gamma` is unused where `gen` is false."""

    @classmethod
    def join(cls, encoder: EncoderSettings, network: DeepFmNetworkSettings) -> Self:
        """Put together what all models share and DeepFM's own parts."""
        shared = encoder.model_dump(include=set(EncoderSettings.model_fields))
        return cls(**shared, **network.model_dump())

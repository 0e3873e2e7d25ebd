"""Settings of the models. Reading them must not import torch, which takes seconds."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import ConfigDict, Field, RootModel, model_validator

from llm_ctr_pipeline.bounds import Heads, Layers, Real, Share, Size, Text, Tokens
from llm_ctr_pipeline.frozen import Frozen

BASELINES = ("deepfm", "logistic_regression", "dcnv2", "finalmlp")
# Of a language model that is served; see `FixedPromptCtr`.
ServingPrecision = Literal["32-true", "bf16", "int8"]
SERVING_PRECISIONS: tuple[str, ...] = get_args(ServingPrecision)


class EmbeddingSettings(Frozen):
    """The part that all models but logistic regression have."""

    embedding_dim: Size = Field(description="Embedding size D.")
    embedding_init_std: Real = Field(
        gt=0, le=10, description="Standard deviation embeddings start with."
    )

    @classmethod
    def join(cls, shared: "EncoderSettings", network: Frozen) -> Self:
        """Put together what a model has of the parts that all share, and its own."""
        parts = shared.model_dump(include=set(cls.model_fields))
        return cls(**parts, **network.model_dump())


class EncoderSettings(EmbeddingSettings):
    """Embedding and GEN encoder."""

    gen_gamma: Real = Field(gt=0, le=1000, description="Scale of the GEN encoder's features.")


class LlmCtrSettings(EncoderSettings):
    """The parts before the language model, and the prompt; no dropout is in what they embed."""

    projector_dim: Size = Field(description="Width of the projector's layer between.")
    projector_per_field: bool = Field(False, description="Whether each field has one of its own.")
    field_vectors: bool = Field(False, description="Whether a field's token gets its own vector.")
    embedding_beside_gen: bool = Field(False, description="Whether a projector reads both.")
    embedding_dropout: Share = Field(0.0, description="Share of the embeddings' values dropped.")
    projector_dropout: Share = Field(0.0, description="Share of the layer between dropped.")
    token_dropout: Share = Field(0.0, description="Share of whole feature tokens dropped.")
    prompt: Text = Field(min_length=1, description="Text before the feature tokens.")
    prompt_suffix: Text = Field(description="Text after the feature tokens.")


class ArchitectureSettings(Frozen):
    """A language model with random weights, by transformers' own names."""

    model_type: str = Field(
        min_length=1, max_length=64, description="An architecture of transformers: qwen3, llama."
    )
    vocab_size: Tokens = Field(ge=258, description="Most tokens of its tokenizer; 256 are bytes.")
    hidden_size: Size = Field(ge=2, description="Width of a token between the layers.")
    intermediate_size: Size = Field(description="Width of a layer's feed-forward part.")
    num_hidden_layers: Layers = Field(description="Decoder layers.")
    num_attention_heads: Heads = Field(description="Query heads of a layer.")
    num_key_value_heads: Heads = Field(description="Key and value heads, which query heads share.")
    head_dim: Size = Field(multiple_of=2, description="Width of a head.")
    tie_word_embeddings: bool = Field(description="Whether the output has the input's vectors.")

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
    attention: Literal["auto", "flash_attention_2", "sdpa", "flex_attention"] = Field(
        description="The kernel; auto: FlashAttention 2 where a trial passed, else PyTorch's."
    )
    freeze: bool = Field(False, description="Whether its weights stay as they start.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.pretrained is None) == (self.architecture is None):
            raise ValueError(
                "llm needs either `pretrained` (a name or a folder) or `architecture` (a model "
                "with random weights), and the other one null"
            )
        return self


class MlpSettings(Frozen):
    """A deep network's hidden layers."""

    hidden_sizes: tuple[Size, ...] = Field(min_length=1, description="Widths of the MLP's layers.")
    dropout: Share = Field(description="Share of hidden activations dropped.")
    batch_norm: bool = Field(description="Whether hidden layers are normalised over the batch.")


class TermsSettings(MlpSettings):
    """Terms over the embeddings that are added to the language model's log-odds.

    `fm` are linear and pairwise terms, `deepfm` these and an MLP, which has the other settings.
    """

    kind: Literal["none", "fm", "deepfm"] = Field(
        description="No terms; linear and pairwise ones; or these and an MLP."
    )
    gen: bool = Field(description="Whether the pairwise terms take generated features.")


class DeepFmNetworkSettings(MlpSettings):
    """DeepFM's own parts."""

    model: Literal["deepfm"] = Field("deepfm", description="Which baseline the path trains.")
    gen: bool = Field(description="Whether its FM term takes generated features.")


class LogisticRegressionSettings(Frozen):
    """Logistic regression: one weight an id, so nothing to choose."""

    model: Literal["logistic_regression"] = Field(
        "logistic_regression", description="Which baseline the path trains."
    )


class DcnV2NetworkSettings(MlpSettings):
    """DCNv2's own parts."""

    model: Literal["dcnv2"] = Field("dcnv2", description="Which baseline the path trains.")
    structure: Literal["parallel", "stacked"] = Field(
        description="Whether the MLP stands beside the cross layers or takes what they give."
    )
    cross_layers: Layers = Field(description="Number of cross layers.")


class FinalMlpNetworkSettings(MlpSettings):
    """FinalMLP's own parts; an MLP's settings without "second" are the first stream's."""

    model: Literal["finalmlp"] = Field("finalmlp", description="Which baseline the path trains.")
    second_hidden_sizes: tuple[Size, ...] = Field(min_length=1, description="The second stream's.")
    second_dropout: Share = Field(description="The second stream's.")
    second_batch_norm: bool = Field(description="The second stream's.")
    gating: bool = Field(description="Whether each stream has a gate before it.")
    gate_hidden_sizes: tuple[Size, ...] = Field(description="Widths of a gate's hidden layers.")
    heads: Heads = Field(description="Parts of the streams that are fused apart.")

    @model_validator(mode="after")
    def _heads_share_evenly(self) -> Self:
        widths = self.hidden_sizes[-1], self.second_hidden_sizes[-1]
        if any(width % self.heads for width in widths):
            raise ValueError(
                f"heads is {self.heads}, which should divide the streams' last widths, "
                f"{widths[0]} and {widths[1]}"
            )
        return self


BaselineNetwork = (
    DeepFmNetworkSettings
    | LogisticRegressionSettings
    | DcnV2NetworkSettings
    | FinalMlpNetworkSettings
)


class BaselineNetworkSettings(RootModel[Annotated[BaselineNetwork, Field(discriminator="model")]]):
    """A baseline's own parts; their `model` says whose."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _of_a_known_model(cls, network: Any) -> Any:
        if isinstance(network, dict) and network.get("model") not in BASELINES:
            raise ValueError(f"its model should be one of {', '.join(BASELINES)}")
        return network


class DeepFmSettings(DeepFmNetworkSettings, EncoderSettings):
    """All of DeepFM's parts; `gen_gamma` is unused where `gen` is false."""


class DcnV2Settings(DcnV2NetworkSettings, EmbeddingSettings):
    """All of DCNv2's parts."""


class FinalMlpSettings(FinalMlpNetworkSettings, EmbeddingSettings):
    """All of FinalMLP's parts."""

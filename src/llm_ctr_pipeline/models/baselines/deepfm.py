"""The baseline: DeepFM, with generated features in its factorisation machine, and its terms.

logit = LR(x) + FM(x) + MLP(flat(e)) (Guo et al., arXiv 1703.04247), where the FM term is

- Σ_{i<j} ⟨e_i, e_j⟩ in the standard model,
- Σ_{i<j} ⟨gen_i, e_j⟩ with GEN (arXiv 2512.14041): the earlier field's generated features meet the
  later field's embedding.

Shape legend: B rows, F fields, D embedding size, K width of the last hidden layer.
"""

from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor, nn

from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.models.layers import (
    FieldEmbedding,
    GenEncoder,
    Mlp,
    at_least_float32,
    linear_float32,
    xavier_linear,
)
from llm_ctr_pipeline.models.settings import (
    DeepFmSettings,
    EncoderSettings,
    MlpSettings,
    TermsSettings,
)


class DeepFm(nn.Module):
    """Click-through rate by linear terms, pairwise interactions and a deep network.

    `embedding` and `gen` have the names and shapes that `LlmCtr` has, so that the trained weights
    can be handed over.

    Args:
        settings: Sizes of the parts.
        field_sizes: Number of ids of each of the F fields, id 0 ("unknown") included.
    """

    def __init__(self, settings: DeepFmSettings, field_sizes: Sequence[int]) -> None:
        super().__init__()
        self.settings = settings
        self.field_sizes = tuple(field_sizes)
        fields, width = len(field_sizes), settings.embedding_dim
        self.embedding = FieldEmbedding(field_sizes, width, settings.embedding_init_std)
        self.gen = GenEncoder(fields, width, settings.gen_gamma) if settings.gen else None
        # One weight an id; zero says nothing about an id that training never meets.
        self.linear = FieldEmbedding(field_sizes, 1, init_std=0.0)
        self.mlp, self.output = _deep_part(fields * width, settings)

    @classmethod
    def create(cls, settings: DeepFmSettings, field_sizes: Sequence[int], seed: int) -> Self:
        """Make a model to train, in float32 on the CPU, whose random weights the seed fixes."""
        torch.manual_seed(seed)
        return cls(settings, field_sizes)

    def describe(self) -> "DeepFmDescription":
        """Describe the model, without its weights."""
        return DeepFmDescription(config=self.settings, field_sizes=self.field_sizes)

    def forward(self, ids_BF: Tensor) -> Tensor:
        """Compute the log-odds of a click.

        Args:
            ids_BF: Ids within each field, int32 or int64, `[B, F]`.

        Returns:
            LR + FM + MLP, float32, `[B]`.
        """
        return _add_up(self, ids_BF, self.embedding(ids_BF))


class DeepFmDescription(Frozen):
    """All that builds the model again, but for its weights.

    Attributes:
        kind: Tells the descriptions of models apart.
        config: The model's settings.
        field_sizes: Number of ids of each field.
    """

    kind: Literal["deepfm"] = "deepfm"
    config: DeepFmSettings
    field_sizes: tuple[int, ...]

    def build(self) -> DeepFm:
        """Build the model's frame, with random weights."""
        return DeepFm(self.config, self.field_sizes)


class Terms(nn.Module):
    """DeepFM's terms over the embeddings of another model, whose log-odds they are added to.

    What a linear and a pairwise model can say they say, so that the other one learns the rest
    ("Wide & Deep", arXiv 1606.07792; DeepFM). GEN encoder and weights are their own.

    Args:
        settings: Which terms; `kind` is not `none`.
        encoder: Says what the embeddings are.
        field_sizes: Number of ids of each of the F fields, id 0 ("unknown") included.
    """

    def __init__(
        self, settings: TermsSettings, encoder: EncoderSettings, field_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        self.settings = settings
        fields, width = len(field_sizes), encoder.embedding_dim
        self.gen = GenEncoder(fields, width, encoder.gen_gamma) if settings.gen else None
        self.linear = FieldEmbedding(field_sizes, 1, init_std=0.0)
        self.mlp: Mlp | None = None
        self.output: nn.Linear | None = None
        if settings.kind == "deepfm":
            self.mlp, self.output = _deep_part(fields * width, settings)

    def forward(self, ids_BF: Tensor, embedded_BFD: Tensor) -> Tensor:
        """Compute log-odds to add, float32 `[B]`, from ids, int `[B, F]`, and their embeddings."""
        return _add_up(self, ids_BF, embedded_BFD)


def _deep_part(inputs: int, settings: MlpSettings) -> tuple[Mlp, nn.Linear]:
    """Make the MLP and its output layer."""
    sizes = settings.hidden_sizes
    mlp = Mlp(inputs, sizes, settings.dropout, batch_norm=settings.batch_norm)
    # Its bias is the linear part's too: the two would only be added.
    return mlp, xavier_linear(sizes[-1], 1)


def _add_up(parts: DeepFm | Terms, ids_BF: Tensor, embedded_BFD: Tensor) -> Tensor:
    """Compute LR + FM + MLP, float32 `[B]`; without an MLP LR + FM."""
    generated_BFD = None if parts.gen is None else parts.gen(embedded_BFD)
    hidden_BK = None if parts.mlp is None else parts.mlp(embedded_BFD.flatten(1))
    linear_B = parts.linear(ids_BF).sum(dim=(1, 2))
    # Outside autocast: bfloat16 has steps of 1/128 at the size of a click's log-odds.
    with torch.autocast(ids_BF.device.type, enabled=False):
        embedded_BFD = at_least_float32(embedded_BFD)
        if generated_BFD is None:
            pairs_B = pairwise_products(embedded_BFD)
        else:
            pairs_B = ordered_products(at_least_float32(generated_BFD), embedded_BFD)
        log_odds_B: Tensor = linear_B + pairs_B
        if parts.output is not None and hidden_BK is not None:
            log_odds_B = log_odds_B + linear_float32(hidden_BK, parts.output)
        return log_odds_B


def pairwise_products(embedded_BFD: Tensor) -> Tensor:
    """Compute Σ_{i<j} ⟨e_i, e_j⟩ of each row, float `[B]`, from embeddings, float `[B, F, D]`.

    As ½ (‖Σ e_i‖² − Σ ‖e_i‖²), in O(F·D) a row (Rendle 2010, "Factorization machines", lemma 3.1).
    """
    total_BD = embedded_BFD.sum(dim=1)
    return 0.5 * (total_BD.square().sum(dim=1) - embedded_BFD.square().sum(dim=(1, 2)))


def ordered_products(left_BFD: Tensor, right_BFD: Tensor) -> Tensor:
    """Compute Σ_{i<j} ⟨left_i, right_j⟩ of each row, float `[B]`, from two float `[B, F, D]`.

    As Σ_j ⟨left_1 + … + left_{j−1}, right_j⟩ by running sums, in O(F·D) a row. The order of the
    fields matters: the left one of a pair is always the earlier field.
    """
    before_BFD = left_BFD[:, :-1].cumsum(dim=1)
    return (before_BFD * right_BFD[:, 1:]).sum(dim=(1, 2))

"""The baseline: DeepFM, with generated features in its factorisation machine.

logit = LR(x) + FM(x) + MLP(flat(e)) (Guo et al., arXiv 1703.04247), where the FM term is

- Σ_{i<j} ⟨e_i, e_j⟩ in the standard model,
- Σ_{i<j} ⟨gen_i, e_j⟩ with GEN (arXiv 2512.14041): the earlier field's generated features meet the
  later field's embedding.

Shape legend: B rows, F fields, D embedding size, K width of the last hidden layer.
"""

from collections.abc import Sequence
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.models.layers import FieldEmbedding, GenEncoder, Mlp
from llm_ctr_pipeline.models.settings import DeepFmSettings


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
        self.mlp = Mlp(
            fields * width,
            settings.hidden_sizes,
            settings.dropout,
            batch_norm=settings.batch_norm,
        )
        # Its bias is the linear part's too: the two would only be added.
        self.output = nn.Linear(settings.hidden_sizes[-1], 1)
        nn.init.xavier_normal_(self.output.weight)
        nn.init.zeros_(self.output.bias)

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
        embedded_BFD = self.embedding(ids_BF)
        generated_BFD = None if self.gen is None else self.gen(embedded_BFD)
        hidden_BK = self.mlp(embedded_BFD.flatten(1))
        linear_B = self.linear(ids_BF).sum(dim=(1, 2))
        # Outside autocast: bfloat16 has steps of 1/128 at the size of a click's log-odds.
        with torch.autocast(ids_BF.device.type, enabled=False):
            embedded_BFD = _at_least_float32(embedded_BFD)
            if generated_BFD is None:
                pairs_B = pairwise_products(embedded_BFD)
            else:
                pairs_B = ordered_products(_at_least_float32(generated_BFD), embedded_BFD)
            weight, bias = self.output.weight, self.output.bias
            deep_B = F.linear(_at_least_float32(hidden_BK), weight, bias)[:, 0]
            log_odds_B: Tensor = linear_B + pairs_B + deep_B
            return log_odds_B


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


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))

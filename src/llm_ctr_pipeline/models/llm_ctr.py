"""The end-to-end model: feature ids → embedding → GEN → projector → language model → click.

Shape legend: B rows, F fields, D embedding size, H the language model's hidden size.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from llm_ctr_pipeline.models.embedding import FieldEmbedding
from llm_ctr_pipeline.models.gen import GenEncoder
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
from llm_ctr_pipeline.models.projector import Projector


class LlmCtr(nn.Module):
    """Click-through rate with a language model as the decoder.

    Args:
        field_sizes: Number of ids of each of the F fields, id 0 ("unknown") included.
        llm: The decoder.
        embedding_dim: Embedding size D.
        embedding_init_std: Standard deviation the embedding table starts from.
        gen_gamma: Scale γ of the generated features.
        projector_dim: Width of the projector's layer between.
    """

    def __init__(
        self,
        field_sizes: Sequence[int],
        llm: LlmDecoder,
        embedding_dim: int,
        embedding_init_std: float,
        gen_gamma: float,
        projector_dim: int,
    ) -> None:
        super().__init__()
        self.embedding = FieldEmbedding(field_sizes, embedding_dim, embedding_init_std)
        self.gen = GenEncoder(len(field_sizes), embedding_dim, gen_gamma)
        self.projector = Projector(embedding_dim, projector_dim, llm.hidden_size)
        self.llm = llm

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

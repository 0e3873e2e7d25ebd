"""Settings of the decoder's side and of the terms beside it, all that there are at once."""

from typing import Any

from llm_ctr_pipeline.models.settings import TermsSettings

OF_FIELDS: dict[str, Any] = {
    "projector_per_field": True,
    "field_vectors": True,
    "embedding_beside_gen": True,
}
DROPOUTS: dict[str, Any] = {
    "embedding_dropout": 0.2,
    "projector_dropout": 0.25,
    "token_dropout": 0.3,
}
DEEPFM_TERMS = TermsSettings(
    kind="deepfm", gen=True, hidden_sizes=(6, 5), dropout=0.2, batch_norm=False
)
EVERYTHING: dict[str, Any] = {**OF_FIELDS, **DROPOUTS, "terms": DEEPFM_TERMS}

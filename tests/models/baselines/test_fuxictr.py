"""Each baseline against FuxiCTR's, the field's reference, with the same weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from benchmarks.fuxictr_client import FuxiCtr, FuxiCtrMissingError, fuxictr_python
from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.settings import EncoderSettings
from tests.baselines import describe, move_weights

FIELD_SIZES = (7, 30, 1000, 2, 11)
SHARED = EncoderSettings(embedding_dim=16, embedding_init_std=0.3, gen_gamma=6.0)
WIDE = {"hidden_sizes": [64, 32]}
NORMALISED = WIDE | {"batch_norm": True}
STREAMS = NORMALISED | {
    **{"second_hidden_sizes": [48], "second_batch_norm": True},
    **{"gate_hidden_sizes": [24], "heads": 4},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("logistic_regression", {}),
        ("deepfm", WIDE),
        ("deepfm", NORMALISED),
        ("dcnv2", WIDE | {"cross_layers": 3}),
        ("dcnv2", NORMALISED),
        ("dcnv2 stacked", NORMALISED),
        ("finalmlp", STREAMS),
        ("finalmlp without gates", STREAMS | {"second_batch_norm": False, "heads": 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_equals_fuxictr_with_the_same_weights(
    make_split: Callable[..., EncodedSplit], tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    """As evaluation computes it, as training does, and after training moved the statistics."""
    try:
        python = fuxictr_python()
    except FuxiCtrMissingError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    model = describe(name, FIELD_SIZES, SHARED, **changes).build().eval()
    move_weights(model, by=0.1)
    rows = make_split(500, seed=1, field_sizes=FIELD_SIZES)
    with FuxiCtr(python, tmp_path, model, rows, batch_size=len(rows)) as fuxictr, torch.no_grad():
        log_odds_N = model(rows.ids_NF)
        scale = log_odds_N.std().item()
        assert scale > 0.2
        torch.testing.assert_close(log_odds_N, fuxictr.logits(), rtol=0, atol=1e-5 * scale)
        loss = functional.binary_cross_entropy_with_logits(log_odds_N, rows.labels_N)
        assert loss.item() == pytest.approx(fuxictr.loss(), rel=1e-5)
        trained_N = model.train()(rows.ids_NF)
        theirs_N = fuxictr.training_logits()
        torch.testing.assert_close(trained_N, theirs_N, rtol=0, atol=1e-5 * trained_N.std().item())
        assert torch.allclose(trained_N, log_odds_N) == ("batch_norm" not in changes)
        moved_N = model.eval()(rows.ids_NF)
        assert torch.allclose(moved_N, log_odds_N) == ("batch_norm" not in changes)
        theirs_N = fuxictr.logits()
        torch.testing.assert_close(moved_N, theirs_N, rtol=0, atol=1e-5 * moved_N.std().item())

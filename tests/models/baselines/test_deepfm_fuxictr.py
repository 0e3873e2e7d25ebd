"""DeepFM against FuxiCTR's, the field's reference, with the same weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from benchmarks.fuxictr_client import FuxiCtr, FuxiCtrMissingError, fuxictr_python
from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.baselines.deepfm import DeepFm
from llm_ctr_pipeline.models.settings import DeepFmSettings

FIELD_SIZES = (7, 30, 1000, 2, 11)
SETTINGS = DeepFmSettings(
    embedding_dim=16,
    embedding_init_std=0.3,
    gen=False,
    gen_gamma=6.0,
    hidden_sizes=(64, 32),
    dropout=0.0,
    batch_norm=False,
)


@pytest.mark.slow
def test_equals_fuxictr_with_the_same_weights(
    make_split: Callable[..., EncodedSplit], tmp_path: Path
) -> None:
    try:
        python = fuxictr_python()
    except FuxiCtrMissingError as error:
        pytest.skip(str(error))
    model = DeepFm.create(SETTINGS, FIELD_SIZES, seed=0)
    with torch.no_grad():
        model.linear.table.weight.normal_()
        model.output.bias.fill_(0.7)
    rows = make_split(500, seed=1, field_sizes=FIELD_SIZES)
    with torch.no_grad():
        log_odds_N = model(rows.ids_NF)
        loss = functional.binary_cross_entropy_with_logits(log_odds_N, rows.labels_N)
    with FuxiCtr(python, tmp_path, model, rows, batch_size=len(rows)) as fuxictr:
        assert log_odds_N.std() > 1
        torch.testing.assert_close(log_odds_N, fuxictr.logits(), rtol=0, atol=1e-5)
        assert loss.item() == pytest.approx(fuxictr.loss(), abs=1e-6)

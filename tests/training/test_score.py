from collections.abc import Callable

import torch

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training.score import score_split
from llm_ctr_pipeline.training.settings import Execution


def test_scores_come_in_the_splits_order(
    make_model: Callable[..., LlmCtr],
    make_split: Callable[..., EncodedSplit],
    make_execution: Callable[..., Execution],
) -> None:
    split = make_split(50, 3)
    model = make_model().train()
    scores = score_split(model, split, make_execution(eval_batch_size=7))
    with torch.no_grad():
        expected_N = torch.sigmoid(model(split.ids_NF).double())
    assert scores.dtype == "float64"
    torch.testing.assert_close(torch.from_numpy(scores), expected_N, rtol=1e-5, atol=1e-7)
    assert not model.training

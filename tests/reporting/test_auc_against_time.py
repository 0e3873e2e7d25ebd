from collections.abc import Callable

import numpy as np
import pytest

from llm_ctr_pipeline.reporting.auc_against_time import auc_against_time
from llm_ctr_pipeline.reporting.comparison import compare_models
from llm_ctr_pipeline.reporting.results import ScoredModel


def test_auc_against_time_shows_intervals_and_the_best(
    make_scored: Callable[..., list[ScoredModel]],
) -> None:
    models = make_scored("deepfm", "single_phase", best_possible=0.83)
    comparison = compare_models(models, "deepfm")
    figure = auc_against_time(comparison)
    for trace, model in zip(figure.data, comparison.models, strict=True):
        assert (list(trace.x), list(trace.y)) == ([model.training_seconds], [model.auc])
        assert trace.y[0] + trace.error_y.array[0] == pytest.approx(model.auc_high)
        assert trace.y[0] - trace.error_y.arrayminus[0] == pytest.approx(model.auc_low)
    low, high = 10 ** np.array(figure.layout.xaxis.range)
    assert low < 10
    assert high > 40
    assert any(low < tick < high for tick in figure.layout.xaxis.tickvals)
    assert figure.layout.shapes[0].y0 == 0.83
    unknown = auc_against_time(comparison.model_copy(update={"best_possible_auc": None}))
    assert not unknown.layout.shapes

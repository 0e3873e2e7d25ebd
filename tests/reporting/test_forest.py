from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import pytest

from llm_ctr_pipeline.reporting.comparison import Comparison, compare_models
from llm_ctr_pipeline.reporting.forest import FARTHEST, difference_figure
from llm_ctr_pipeline.reporting.results import ScoredModel

Make = Callable[..., list[ScoredModel]]


def moved(comparison: Comparison, **changes: Any) -> Comparison:
    """The comparison with another difference of its last model."""
    *others, last = comparison.models
    assert last.difference is not None
    difference = last.difference.model_copy(update=changes)
    models = (*others, last.model_copy(update={"difference": difference}))
    return comparison.model_copy(update={"models": models})


def test_the_forest_shows_each_difference_with_its_interval(
    make_scored: Make, strict_json: Callable[[go.Figure], str]
) -> None:
    comparison = compare_models(make_scored("deepfm", "single_phase", "dcnv2"), "deepfm")
    figure = difference_figure(comparison)
    assert [trace.name for trace in figure.data] == ["single_phase", "dcnv2"]  # by their AUC
    for trace, model in zip(figure.data, comparison.models[1:], strict=True):
        d = model.difference
        assert d is not None
        assert list(trace.x) == [d.auc_low, d.auc, d.auc_high]
    low, high = figure.layout.xaxis.range
    assert low < min(trace.x[0] for trace in figure.data)
    assert -low == high
    labels = [note.text for note in figure.layout.annotations]
    assert labels[0].startswith("<b>single_phase</b>  −0.")
    assert figure.layout.shapes[0].x0 == 0
    strict_json(figure)


def test_a_model_far_off_is_an_arrow_and_does_not_press_the_others_together(
    make_scored: Make,
) -> None:
    models = make_scored("deepfm", "single_phase", "hybrid", "dcnv2", "finalmlp")
    comparison = compare_models(models, "deepfm")
    far = moved(comparison, auc=-3.0, auc_low=-3.1, auc_high=-2.9)
    figure = difference_figure(far)
    *_, arrow = figure.data
    low, _ = figure.layout.xaxis.range
    assert len(arrow.x) == 1
    assert arrow.marker.symbol == "triangle-left"
    assert low < arrow.x[0] < 0
    ends = sorted(max(abs(t.x[0]), abs(t.x[-1])) for t in figure.data[:-1])
    assert -low == pytest.approx(1.05 * FARTHEST * (ends[1] + ends[2]) / 2)
    assert "−3.0000 [−3.1000, −2.9000]" in figure.layout.annotations[-1].text

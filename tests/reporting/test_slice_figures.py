from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import pytest

from llm_ctr_pipeline.metrics.slices import Slice, Slices
from llm_ctr_pipeline.reporting.results import ScoredModel
from llm_ctr_pipeline.reporting.slice_figures import auc_by_hour, auc_by_value

Make = Callable[..., list[ScoredModel]]
StrictJson = Callable[[go.Figure], str]


def one(field: str, value: str | None, auc: float) -> Slice:
    ends = {"auc_low": auc - 0.1, "auc_high": auc + 0.1}
    return Slice(field=field, id=1, value=value, rows=100, clicks=20, auc=auc, **ends)


def test_fields_stand_by_their_weakest_value(make_scored: Make, strict_json: StrictJson) -> None:
    (model,) = make_scored("deepfm")
    slices = (one("a", "x", 0.7), one("a", None, 0.8), one("b", "y", 0.6), one("b", "z", 0.9))
    figure = auc_by_value(Slices(hour=None, slices=slices), model.report.evaluation)
    assert [trace.name for trace in figure.data] == ["b", "a"]
    assert list(figure.layout.yaxis.ticktext) == ["b", "a"]
    weakest, other = figure.data
    assert list(weakest.x) == [0.6, 0.9]
    np.testing.assert_allclose(np.subtract(weakest.x, weakest.error_x.arrayminus), [0.5, 0.8])
    assert np.round(weakest.y).tolist() == [0, 0]
    assert [custom[0] for custom in other.customdata] == ["x", "unknown"]
    assert figure.layout.shapes[0].x0 == model.report.evaluation.auc
    strict_json(figure)


def test_hours_stand_in_their_order_with_a_band(make_scored: Make, strict_json: StrictJson) -> None:
    (model,) = make_scored("deepfm")
    hours = [one("hour", value, auc) for value, auc in (("10", 0.7), ("9", 0.8), (None, 0.5))]
    figure = auc_by_hour(Slices(hour="hour", slices=tuple(hours)), model.report.evaluation)
    band, line = figure.data
    assert (list(line.x), list(line.y)) == ([9, 10], [0.8, 0.7])
    assert list(band.y) == pytest.approx([0.7, 0.6, 0.8, 0.9])
    strict_json(figure)


def test_a_log_without_hours_says_so(make_scored: Make) -> None:
    (model,) = make_scored("deepfm")
    figure = auc_by_hour(Slices(hour=None, slices=()), model.report.evaluation)
    assert not figure.data
    assert "no field of this log is an hour" in figure.layout.annotations[0].text

from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from llm_ctr_pipeline.metrics.calibration import calibration_table
from llm_ctr_pipeline.reporting.calibration_figures import calibration_figure, score_distribution
from llm_ctr_pipeline.reporting.results import ScoredModel

StrictJson = Callable[[go.Figure], str]


def test_calibration_shows_its_table_and_counts_its_rows(
    log: Callable[..., Any], tested: Callable[..., Any], strict_json: StrictJson
) -> None:
    labels, probabilities = log(5000)
    figure = calibration_figure(*tested(labels, probabilities))
    diagonal, bins, rows = figure.data
    table = calibration_table(labels, probabilities)
    assert list(bins.x) == table["mean_predicted"].tolist()
    assert list(bins.y) == table["observed_rate"].tolist()
    np.testing.assert_allclose(np.add(bins.y, bins.error_y.array), table["observed_high"])
    np.testing.assert_allclose(np.subtract(bins.y, bins.error_y.arrayminus), table["observed_low"])
    low, high = figure.layout.xaxis.range
    assert tuple(figure.layout.yaxis.range) == tuple(diagonal.x) == tuple(diagonal.y) == (low, high)
    assert 0 <= low < min(bins.x)
    assert max(bins.x) < high < 0.8
    beyond = 5000 - sum(rows.y)
    assert beyond == ((probabilities < low) | (probabilities > high)).sum() > 0
    assert f"({beyond:,} of 5,000 rows lie beyond" in figure.layout.xaxis2.title.text
    strict_json(figure)


@pytest.mark.parametrize("constant", [0.0, 0.5, 1.0])
def test_calibration_of_a_constant_model(
    log: Callable[..., Any], tested: Callable[..., Any], strict_json: StrictJson, constant: float
) -> None:
    labels, _ = log(100)
    figure = calibration_figure(*tested(labels, np.full(100, constant)))
    assert list(figure.data[1].x) == [constant]
    assert sum(figure.data[2].y) == 100
    assert figure.layout.xaxis2.title.text == "Predicted click probability"
    strict_json(figure)


def test_calibration_shows_each_models_bins_and_distribution(
    make_scored: Callable[..., list[ScoredModel]],
    comparison_figures: Callable[..., tuple[go.Figure, ...]],
) -> None:
    models = make_scored("deepfm", "single_phase")
    _, calibration, _ = comparison_figures(models)
    _, bins, rows, other_bins, other_rows = calibration.data
    low, high = calibration.layout.xaxis.range
    for model, points, shares in ((models[0], bins, rows), (models[1], other_bins, other_rows)):
        table = calibration_table(model.labels_N, model.probabilities_N)
        assert list(points.x) == table["mean_predicted"].tolist()
        assert list(points.y) == table["observed_rate"].tolist()
        assert low <= min(points.x)
        assert max(points.x) <= high
        within = (model.probabilities_N >= low) & (model.probabilities_N <= high)
        assert sum(shares.y) == pytest.approx(within.mean())


def test_the_distribution_counts_each_classs_rows(
    log: Callable[..., Any], tested: Callable[..., Any], strict_json: StrictJson
) -> None:
    labels, probabilities = log(5000)
    figure = score_distribution(*tested(labels, probabilities))
    others, clicks = figure.data
    for trace, is_click in ((others, 0), (clicks, 1)):
        assert sum(trace.y) == pytest.approx(1)
        mean = np.dot(trace.customdata, trace.y)
        assert mean == pytest.approx(probabilities[labels == is_click].mean(), abs=0.01)
    ticks = dict(zip(figure.layout.xaxis.ticktext, figure.layout.xaxis.tickvals, strict=True))
    assert ticks["0.5"] == 0
    strict_json(figure)


@pytest.mark.parametrize("constant", [0.0, 0.5, 1.0])
def test_the_distribution_of_a_constant_model(
    log: Callable[..., Any], tested: Callable[..., Any], strict_json: StrictJson, constant: float
) -> None:
    labels, _ = log(100)
    figure = score_distribution(*tested(labels, np.full(100, constant)))
    assert [max(trace.y) for trace in figure.data] == [1, 1]
    assert len(figure.layout.xaxis.tickvals) > 3
    strict_json(figure)

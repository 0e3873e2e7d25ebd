import json

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import pytest
from sklearn.metrics import auc

from llm_ctr_pipeline.metrics.calibration import calibration_table
from llm_ctr_pipeline.metrics.checks import InvalidPredictionsError, SingleClassError
from llm_ctr_pipeline.metrics.delong import auc_interval
from llm_ctr_pipeline.reporting.plot_style import TEMPLATE
from llm_ctr_pipeline.reporting.test_figures import (
    CURVE_POINTS,
    calibration_figure,
    roc_figure,
)

FloatArray = npt.NDArray[np.float64]


def _log(rows: int) -> tuple[npt.NDArray[np.int8], FloatArray, FloatArray]:
    rng = np.random.default_rng(11)
    truth = rng.beta(1.2, 5, size=rows)
    noisy = np.clip(truth + 0.1 * rng.normal(size=rows), 0.001, 0.999)
    return (rng.random(rows) < truth).astype(np.int8), noisy, truth


def _strict_json(figure: go.Figure) -> str:
    """Write the figure as any viewer could read it: no NaN, no binary arrays."""
    text = str(figure.to_json())
    json.dumps(json.loads(text), allow_nan=False)
    assert "bdata" not in text
    return text


def test_roc_curve_is_thinned_but_true() -> None:
    labels, probabilities, truth = _log(20_000)
    figure = roc_figure(labels, probabilities, title="ROC, x4 test", best_possible=truth)
    model, best, chance = figure.data
    for trace, scores in ((model, probabilities), (best, truth)):
        interval = auc_interval(labels, scores)
        assert len(trace.x) == len(trace.customdata) <= CURVE_POINTS
        assert (trace.x[0], trace.y[0], trace.x[-1], trace.y[-1]) == (0, 0, 1, 1)
        assert auc(trace.x, trace.y) == pytest.approx(interval.auc, abs=1e-4)
        assert f"{interval.auc:.4f} [{interval.low:.4f}, {interval.high:.4f}]" in trace.name
    # each point is a point of the full curve: the rates at its threshold
    for x, y, threshold in list(zip(model.x, model.y, model.customdata, strict=True))[1::50]:
        assert x == pytest.approx((probabilities[labels == 0] >= threshold).mean())
        assert y == pytest.approx((probabilities[labels == 1] >= threshold).mean())
    assert list(chance.x) == list(chance.y) == [0, 1]
    assert figure.layout.title.text == "ROC, x4 test"
    assert len(_strict_json(figure)) < 100_000


def test_short_roc_curve_is_whole() -> None:
    figure = roc_figure([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], best_possible_auc=0.8)
    model, _ = figure.data
    assert list(zip(model.x, model.y, strict=True)) == [
        (0, 0),
        (0, 0.5),
        (0.5, 0.5),
        (0.5, 1),
        (1, 1),
    ]
    assert "best possible AUC on this log 0.8000" in figure.layout.title.subtitle.text
    _strict_json(figure)


def test_roc_errors_say_whose() -> None:
    with pytest.raises(SingleClassError, match="x4 test, model: all 2 rows"):
        roc_figure([0, 0], [0.1, 0.2], split="x4 test")
    with pytest.raises(InvalidPredictionsError, match="x4 test, best possible: 2 labels but 1"):
        roc_figure([0, 1], [0.1, 0.2], best_possible=[0.1], split="x4 test")


def test_calibration_shows_its_table_and_counts_its_rows() -> None:
    labels, probabilities, _ = _log(5000)
    figure = calibration_figure(labels, probabilities)
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
    _strict_json(figure)


@pytest.mark.parametrize("constant", [0.0, 0.5, 1.0])
def test_calibration_of_a_constant_model(constant: float) -> None:
    labels, _, _ = _log(100)
    figure = calibration_figure(labels, np.full(100, constant))
    assert list(figure.data[1].x) == [constant]
    assert sum(figure.data[2].y) == 100
    assert figure.layout.xaxis2.title.text == "Predicted click probability"
    _strict_json(figure)


def test_calibration_errors() -> None:
    with pytest.raises(SingleClassError, match="x4 test: none of the 2 rows is a click"):
        calibration_figure([0, 0], [0.1, 0.2], split="x4 test")
    with pytest.raises(ValueError, match="at least 1 bin"):
        calibration_figure([0, 1], [0.1, 0.2], bins=0)


def test_every_figure_has_the_house_look_and_names_its_axes() -> None:
    labels, probabilities, _ = _log(200)
    for figure in (
        roc_figure(labels, probabilities),
        calibration_figure(labels, probabilities),
    ):
        assert figure.layout.template == TEMPLATE
        assert figure.layout.title.text
        assert all(axis.title.text for axis in figure.select_yaxes())
        assert list(figure.select_xaxes())[-1].title.text


def test_the_legend_lets_the_ground_through() -> None:
    """Kedro-Viz has a dark ground and light letters, so a legend's own ground hides them."""
    *_, opacity = TEMPLATE.layout.legend.bgcolor.removesuffix(")").split(",")
    assert float(opacity) <= 0.2

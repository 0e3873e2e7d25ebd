from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from sklearn.metrics import auc, roc_curve

from llm_ctr_pipeline.metrics.delong import interval_of, place_rows
from llm_ctr_pipeline.reporting.results import ScoredModel
from llm_ctr_pipeline.reporting.roc_figures import CURVE_POINTS, GRID_POINTS, roc_figure

StrictJson = Callable[[go.Figure], str]


def test_roc_curve_is_thinned_but_true(
    log: Callable[..., Any], tested: Callable[..., Any], strict_json: StrictJson
) -> None:
    labels, probabilities = log(20_000)
    figure = roc_figure(*tested(labels, probabilities))
    chance, _, model = figure.data
    interval = interval_of(place_rows(labels, probabilities))
    assert len(model.x) == len(model.customdata) <= CURVE_POINTS
    assert (model.x[0], model.y[0], model.x[-1], model.y[-1]) == (0, 0, 1, 1)
    assert auc(model.x, model.y) == pytest.approx(interval.value, abs=1e-4)
    said = f"AUC {interval.value:.4f}, 95% interval {interval.low:.4f} to {interval.high:.4f}"
    assert said in figure.layout.meta["caption"]
    # each point is a point of the full curve: the rates at its threshold
    for x, y, threshold in list(zip(model.x, model.y, model.customdata, strict=True))[1::50]:
        assert x == pytest.approx((probabilities[labels == 0] >= threshold).mean())
        assert y == pytest.approx((probabilities[labels == 1] >= threshold).mean())
    assert list(chance.x) == list(chance.y) == [0, 1]
    assert figure.layout.title.text == "ROC, single_phase on x4 test"
    assert "best possible" not in figure.layout.meta["caption"]
    assert len(strict_json(figure)) < 100_000


def test_short_roc_curve_is_whole(tested: Callable[..., Any], strict_json: StrictJson) -> None:
    figure = roc_figure(*tested([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], 0.8))
    *_, model = figure.data
    assert list(zip(model.x, model.y, strict=True)) == [
        (0, 0),
        (0, 0.5),
        (0.5, 0.5),
        (0.5, 1),
        (1, 1),
    ]
    assert "best possible AUC on this log 0.8000" in figure.layout.meta["caption"]
    strict_json(figure)


def test_the_band_holds_95_of_100_curves_of_other_rows(
    log: Callable[..., Any], tested: Callable[..., Any]
) -> None:
    labels, probabilities = log(100_000)
    parts = np.arange(labels.size).reshape(100, -1)
    figure = roc_figure(*tested(labels[parts[0]], probabilities[parts[0]]))
    _, band, model = figure.data
    low, high = np.array(band.y[:GRID_POINTS]), np.array(band.y[GRID_POINTS:])[::-1]
    grid = np.array(band.x[:GRID_POINTS])
    middle = slice(20, 180)
    own = np.interp(grid, model.x, model.y)
    assert np.all((low <= own + 1e-9) & (own <= high + 1e-9))
    # Its width is that of where curves of as many other rows lie.
    curves = [roc_curve(labels[part], probabilities[part]) for part in parts]
    others = [np.interp(grid, fpr, tpr) for fpr, tpr, _ in curves]
    spread = np.std(others, axis=0, ddof=1)[middle]
    widths = (high - low)[middle] / (2 * 1.96 * spread)
    assert widths.mean() == pytest.approx(1, abs=0.1)


def test_roc_shows_each_curve_and_its_distance_to_the_baseline(
    make_scored: Callable[..., list[ScoredModel]],
    comparison_figures: Callable[..., tuple[go.Figure, ...]],
) -> None:
    models = make_scored("deepfm", "single_phase", rows=20_000)
    roc, _, _ = comparison_figures(models)
    base, zero, curve, difference, chance = roc.data
    assert len(curve.x) <= CURVE_POINTS
    aucs = [model.report.evaluation.auc for model in models]
    assert auc(base.x, base.y) == pytest.approx(aucs[0], abs=1e-4)
    assert auc(curve.x, curve.y) == pytest.approx(aucs[1], abs=1e-4)
    assert curve.name == f"single_phase, {aucs[1]:.4f}"
    assert set(zero.y) == {0}
    # the area between two curves is the difference of their AUCs
    assert auc(difference.x, difference.y) == pytest.approx(aucs[1] - aucs[0], abs=2e-4)
    assert (curve.yaxis, difference.yaxis, chance.yaxis) == ("y", "y2", "y")


def test_several_seeds_have_one_curve_whose_area_is_their_mean_auc(
    make_scored: Callable[..., list[ScoredModel]],
    as_seeds: Callable[[list[ScoredModel]], list[ScoredModel]],
    comparison_figures: Callable[..., tuple[go.Figure, ...]],
    strict_json: StrictJson,
) -> None:
    base, *others = make_scored("deepfm", "single_phase", "single_phase", rows=20_000)
    roc, calibration, against_time = comparison_figures([base, *as_seeds(others)])
    _, _, curve, difference, _ = roc.data
    mean = sum(model.report.evaluation.auc for model in others) / 2
    assert auc(curve.x, curve.y) == pytest.approx(mean, abs=1e-3)
    assert curve.name == f"single_phase, 2 seeds, {mean:.4f}"
    over_base = mean - base.report.evaluation.auc
    assert auc(difference.x, difference.y) == pytest.approx(over_base, abs=1e-3)
    first = others[0].report.evaluation.expected_calibration_error
    assert f"single_phase (seed 1), {first:.4f}" in {one.name for one in calibration.data}
    assert against_time.data[1].name.startswith(f"single_phase, {mean:.4f} ± ")
    for figure in (roc, calibration, against_time):
        strict_json(figure)

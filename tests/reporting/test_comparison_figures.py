import json
from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import pytest
from sklearn.metrics import auc

from llm_ctr_pipeline.metrics.calibration import calibration_table
from llm_ctr_pipeline.metrics.comparison import ScoredModel, compare_models
from llm_ctr_pipeline.reporting.comparison_figures import (
    auc_against_time,
    calibration_comparison,
    roc_comparison,
)
from llm_ctr_pipeline.reporting.plot_style import TEMPLATE, styles_of
from llm_ctr_pipeline.reporting.test_figures import CURVE_POINTS

PATHS = ("deepfm", "single_phase", "two_phase", "two_phase_finetuned")

Make = Callable[..., list[ScoredModel]]


def figures(models: list[ScoredModel], baseline: str = "deepfm") -> tuple[go.Figure, ...]:
    comparison = compare_models(models, baseline)
    return (
        roc_comparison(models, comparison),
        calibration_comparison(models, comparison),
        auc_against_time(comparison),
    )


def colors(figure: go.Figure) -> dict[str, str]:
    """The colour of each model's trace in the legend."""
    named = [trace for trace in figure.data if trace.showlegend is not False]
    return {
        trace.name.partition(",")[0].partition("<br>")[0]: trace.line.color or trace.marker.color
        for trace in named
        if not trace.name.startswith(("Chance", "Perfect"))
    }


def test_a_model_has_one_colour_in_all_figures_and_no_two_the_same(make_scored: Make) -> None:
    roc, calibration, time = figures(make_scored(*PATHS))
    assert colors(roc) == colors(calibration) == colors(time)
    assert len(set(colors(roc).values())) == len(PATHS)
    # with other models and another baseline as well
    for figure in figures(make_scored("single_phase", "deepfm"), "single_phase"):
        assert colors(figure).items() <= colors(roc).items()


def test_more_models_of_one_path_look_different() -> None:
    styles = styles_of(["single_phase", "single_phase", "deepfm", "single_phase"])
    assert len(set(styles)) == 4
    assert styles[0] == styles_of(["single_phase"])[0]
    assert len(set(styles_of(["single_phase"] * 8))) == 8
    # not by colour alone
    assert len({style.symbol for style in styles_of(["single_phase"] * 8)}) == 8


def test_roc_shows_each_curve_and_its_distance_to_the_baseline(make_scored: Make) -> None:
    models = make_scored("deepfm", "single_phase", rows=20_000)
    roc, _, _ = figures(models)
    base, zero, curve, difference, chance = roc.data
    assert len(curve.x) <= CURVE_POINTS
    aucs = [model.report.evaluation["auc"] for model in models]
    assert auc(base.x, base.y) == pytest.approx(aucs[0], abs=1e-4)
    assert auc(curve.x, curve.y) == pytest.approx(aucs[1], abs=1e-4)
    assert f"AUC {aucs[1]:.4f} [" in curve.name
    assert set(zero.y) == {0}
    # the area between two curves is the difference of their AUCs
    assert auc(difference.x, difference.y) == pytest.approx(aucs[1] - aucs[0], abs=2e-4)
    assert (curve.yaxis, difference.yaxis, chance.yaxis) == ("y", "y2", "y")


def test_calibration_shows_each_models_bins_and_distribution(make_scored: Make) -> None:
    models = make_scored("deepfm", "single_phase")
    _, calibration, _ = figures(models)
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


def test_auc_against_time_shows_intervals_and_the_best(make_scored: Make) -> None:
    models = make_scored("deepfm", "single_phase", best_possible=0.83)
    comparison = compare_models(models, "deepfm")
    figure = auc_against_time(comparison)
    for trace, entry in zip(figure.data, comparison["models"], strict=True):
        assert (list(trace.x), list(trace.y)) == ([entry["training_seconds"]], [entry["auc"]])
        assert trace.y[0] + trace.error_y.array[0] == pytest.approx(entry["auc_high"])
        assert trace.y[0] - trace.error_y.arrayminus[0] == pytest.approx(entry["auc_low"])
    low, high = 10 ** np.array(figure.layout.xaxis.range)
    assert low < 10
    assert high > 40
    assert any(low < tick < high for tick in figure.layout.xaxis.tickvals)
    assert figure.layout.shapes[0].y0 == 0.83
    unknown = auc_against_time({**comparison, "best_possible_auc": None})
    assert not unknown.layout.shapes


def test_figures_are_small_plain_marked_and_in_the_house_look(make_scored: Make) -> None:
    for figure in figures(make_scored(*PATHS, rows=20_000)):
        text = str(figure.to_json())
        json.dumps(json.loads(text), allow_nan=False)
        assert "bdata" not in text
        assert len(text) < 200_000
        assert figure.layout.template == TEMPLATE
        assert "x4 test: 20,000 rows" in figure.layout.title.subtitle.text
        assert all(axis.title.text for axis in figure.select_yaxes())
        notes = [note.text for note in figure.layout.annotations if note.text.startswith("†")]
        assert len(notes) == 1
        assert sum("two_phase †" in (trace.name or "") for trace in figure.data) >= 1
    for figure in figures(make_scored("deepfm", "single_phase")):
        assert "†" not in str(figure.to_dict())

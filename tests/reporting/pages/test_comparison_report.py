import html
from collections.abc import Callable

import plotly.graph_objects as go
import pytest

from llm_ctr_pipeline.reporting.comparison import Comparison, compare_models
from llm_ctr_pipeline.reporting.comparison_table import signed
from llm_ctr_pipeline.reporting.forest import difference_figure
from llm_ctr_pipeline.reporting.pages.comparison_report import comparison_report, verdict_of
from llm_ctr_pipeline.reporting.results import ScoredModel
from tests.records import FACTS

Make = Callable[..., list[ScoredModel]]


@pytest.fixture
def models(make_scored: Make) -> list[ScoredModel]:
    return make_scored("single_phase", "deepfm", "two_phase", rows=2000)


def with_p(comparison: Comparison, **p_values: float) -> Comparison:
    """The comparison with other p-values of some models."""
    changed = []
    for model in comparison.models:
        difference = model.difference
        if difference is not None and model.name in p_values:
            p_value = {"p_value_holm": p_values[model.name]}
            difference = difference.model_copy(update=p_value)
        changed.append(model.model_copy(update={"difference": difference}))
    return comparison.model_copy(update={"models": tuple(changed)})


def test_the_report_opens_with_the_verdict_and_the_differences(
    models: list[ScoredModel], comparison_figures: Callable[..., tuple[go.Figure, ...]]
) -> None:
    comparison = compare_models(models, "deepfm", {"hybrid": "kedro run"})
    roc, calibration, time = comparison_figures(models)
    page = comparison_report(
        comparison, FACTS, difference_figure(comparison), time, calibration, roc
    )
    body = html.unescape(page.partition("</head>")[2])
    places = [body.index(f'id="{each}"') for each in ("differences", "against-time", "roc")]
    assert places == sorted(places)
    assert body.index(verdict_of(comparison)[0]) < places[0] < body.index("<table>")
    assert page.count("* plotly.js v") == 1
    assert "No results of hybrid yet: `kedro run`." in body
    assert comparison.data_fingerprint in body


def test_the_verdict_names_the_best_and_says_how_sure_that_is(models: list[ScoredModel]) -> None:
    comparison = compare_models(models, "deepfm")
    best = max(comparison.models, key=lambda model: model.auc)
    assert best.name == "single_phase"
    assert best.difference is not None
    d = best.difference
    headline, *_ = verdict_of(with_p(comparison, single_phase=0.01))
    assert headline == (
        f"single_phase has the highest AUC, {best.auc:.4f}: "
        f"{signed(d.auc, d.auc_low, d.auc_high)} over deepfm, more than chance explains (p 0.01)."
    )
    unsure = verdict_of(with_p(comparison, single_phase=0.06))[0]
    assert "which is what chance may explain (p 0.06)" in unsure
    of_first = verdict_of(compare_models(models, "single_phase"))[0]
    assert of_first == f"single_phase has the highest AUC, {best.auc:.4f}."


def test_models_are_parted_by_what_their_difference_shows(models: list[ScoredModel]) -> None:
    comparison = compare_models(models, "deepfm")
    _, *parted = verdict_of(with_p(comparison, single_phase=0.04, two_phase=0.04))
    assert parted == ["Better than deepfm: single_phase.", "Worse than deepfm: two_phase †."]
    _, *parted = verdict_of(with_p(comparison, single_phase=0.05, two_phase=0.9))
    assert parted == ["Not to be told from deepfm on these rows: single_phase, two_phase †."]

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go

from llm_ctr_pipeline.reporting.calibration_figures import calibration_figure
from llm_ctr_pipeline.reporting.plot_style import TEMPLATE, styles_of
from llm_ctr_pipeline.reporting.results import ScoredModel
from llm_ctr_pipeline.reporting.roc_figures import roc_figure
from llm_ctr_pipeline.training.settings import PATHS

Make = Callable[..., list[ScoredModel]]
Draw = Callable[..., tuple[go.Figure, ...]]


def colors(figure: go.Figure) -> dict[str, str]:
    """The colour of each model's trace in the legend."""
    named = [trace for trace in figure.data if trace.showlegend is not False]
    return {
        trace.name.partition(",")[0].partition("<br>")[0]: trace.line.color or trace.marker.color
        for trace in named
        if not trace.name.startswith(("Chance", "Perfect"))
    }


def test_a_model_has_one_colour_in_all_figures_and_no_two_the_same(
    make_scored: Make, comparison_figures: Draw
) -> None:
    roc, calibration, time = comparison_figures(make_scored(*PATHS))
    assert colors(roc) == colors(calibration) == colors(time)
    assert len(set(colors(roc).values())) == len(PATHS)
    # with other models and another baseline as well
    for figure in comparison_figures(make_scored("single_phase", "deepfm"), "single_phase"):
        assert colors(figure).items() <= colors(roc).items()


def test_more_models_of_one_path_look_different() -> None:
    styles = styles_of(["single_phase", "single_phase", "deepfm", "single_phase"])
    assert len(set(styles)) == 4
    assert styles[0] == styles_of(["single_phase"])[0]
    assert len(set(styles_of(["single_phase"] * 8))) == 8
    # not by colour alone
    assert len({style.symbol for style in styles_of(["single_phase"] * 8)}) == 8


def test_figures_are_small_plain_marked_and_in_the_house_look(
    make_scored: Make, comparison_figures: Draw, strict_json: Callable[[go.Figure], str]
) -> None:
    for figure in comparison_figures(make_scored(*PATHS, rows=20_000)):
        assert len(strict_json(figure)) < 50_000 * len(PATHS)
        assert figure.layout.template == TEMPLATE
        assert "x4 test: 20,000 rows" in figure.layout.title.subtitle.text
        assert all(axis.title.text for axis in figure.select_yaxes())
        notes = [note.text for note in figure.layout.annotations if note.text.startswith("†")]
        assert len(notes) == 1
        assert sum("two_phase †" in (trace.name or "") for trace in figure.data) >= 1
    for figure in comparison_figures(make_scored("deepfm", "single_phase")):
        assert "†" not in str(figure.to_dict())


def test_every_figure_has_the_house_look_and_names_its_axes(
    log: Callable[..., Any], tested: Callable[..., Any]
) -> None:
    predictions, evaluation = tested(*log(200))
    for figure in (
        roc_figure(predictions, evaluation),
        calibration_figure(predictions, evaluation),
    ):
        assert figure.layout.template == TEMPLATE
        assert figure.layout.title.text
        assert all(axis.title.text for axis in figure.select_yaxes())
        assert list(figure.select_xaxes())[-1].title.text


def test_the_legend_lets_the_ground_through() -> None:
    """Kedro-Viz has a dark ground and light letters, so a legend's own ground hides them."""
    *_, opacity = TEMPLATE.layout.legend.bgcolor.removesuffix(")").split(",")
    assert float(opacity) <= 0.2

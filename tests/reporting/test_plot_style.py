from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
import pytest

from llm_ctr_pipeline.reporting.calibration_figures import calibration_figure
from llm_ctr_pipeline.reporting.comparison import compare_models
from llm_ctr_pipeline.reporting.forest import difference_figure
from llm_ctr_pipeline.reporting.plot_style import TEMPLATE, error_bars, styles_of
from llm_ctr_pipeline.reporting.results import ScoredModel
from llm_ctr_pipeline.reporting.roc_figures import roc_figure
from llm_ctr_pipeline.training.settings import PATHS

Make = Callable[..., list[ScoredModel]]
Draw = Callable[..., tuple[go.Figure, ...]]


def colors(figure: go.Figure) -> dict[str, str]:
    """The colour of each model's trace in the legend."""
    named = [trace for trace in figure.data if trace.showlegend is not False]
    return {
        trace.name.partition(",")[0]: trace.line.color or trace.marker.color
        for trace in named
        if not trace.name.startswith(("chance", "Perfect"))
    }


def test_a_model_has_one_colour_in_all_figures_and_no_two_the_same(
    make_scored: Make, comparison_figures: Draw
) -> None:
    models = make_scored(*PATHS)
    roc, calibration, time = comparison_figures(models)
    assert colors(roc) == colors(calibration) == colors(time)
    forest = colors(difference_figure(compare_models(models, "deepfm")))
    assert forest == {name: of for name, of in colors(roc).items() if name != "deepfm"}
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
        assert "x4 test: 20,000 rows" in figure.layout.meta["caption"]
        assert all(axis.title.text for axis in figure.select_yaxes())
        (note,) = figure.layout.meta["notes"]
        assert note.startswith("†")
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


def test_figures_have_no_ground_and_one_grey_for_all_themes() -> None:
    """Kedro-Viz sets the letters and grids of a figure's first pair of axes, and of no others."""
    layout = TEMPLATE.layout
    grounds = [layout.paper_bgcolor, layout.plot_bgcolor, layout.xaxis.gridcolor]
    opacities = [float(ground.rpartition(",")[2].strip(" )")) for ground in grounds]
    assert opacities == [0, 0, pytest.approx(0.22)]
    assert min(contrast(layout.font.color, ground) for ground in GROUNDS) > 3.9


# Linear light of red, green and blue as an eye sees it that lacks one kind of cone (Machado,
# Oliveira & Fernandes 2009, severity 1).
EYES = {
    "all": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no long": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no middle": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no short": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
TO_XYZ = [[0.4339, 0.3763, 0.1899], [0.2127, 0.7152, 0.0722], [0.0178, 0.1095, 0.8728]]
GROUNDS = ("#FFFFFF", "#111111")


def light(color: str) -> npt.NDArray[np.float64]:
    """Linear light of a colour written as six hexadecimal digits."""
    coded = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def contrast(color: str, ground: str) -> float:
    """WCAG's contrast ratio."""
    low, high = sorted(float(light(each) @ TO_XYZ[1]) + 0.05 for each in (color, ground))
    return high / low


def lab(seen: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """CIE L*a*b* of linear light."""
    x, y, z = np.cbrt(np.maximum(np.array(TO_XYZ) @ seen, 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eye", EYES)
def test_the_paths_colours_differ_to_every_eye(eye: str) -> None:
    seen = [lab(np.clip(EYES[eye] @ light(style.color), 0, 1)) for style in styles_of(PATHS)]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > 9


@pytest.mark.parametrize("ground", GROUNDS)
def test_the_paths_colours_stand_out_from_either_ground(ground: str) -> None:
    assert min(contrast(style.color, ground) for style in styles_of(PATHS)) > 2.75


def test_error_bars_reach_from_a_value_to_the_ends_of_its_interval() -> None:
    bars = error_bars([0.5, 0.25], [0.25, 0.25], [1.0, 0.75])
    assert (bars["arrayminus"], bars["array"]) == ([0.25, 0.0], [0.5, 0.5])
    figure = go.Figure(go.Scatter(x=[1, 2], y=[0.5, 0.25], error_y=bars))
    assert figure.data[0].error_y.symmetric is False

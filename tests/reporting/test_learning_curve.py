import json
import math
from typing import Any

import plotly.graph_objects as go
import pytest

from llm_ctr_pipeline.reporting.learning_curve import learning_curve_figure
from llm_ctr_pipeline.reporting.plot_style import TEMPLATE


def _validation(epoch: float, auc_: float, *, best: bool = False) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "step": 1000 * epoch,
        "train_loss": 0.4 - 0.01 * epoch,
        "train_accuracy": 83.0,
        "valid_loss": 0.39,
        "valid_accuracy": 83.1,
        "valid_auc": auc_,
        "valid_logloss": 0.39,
        "seconds": 60.0,
        "rows_per_second": 12_000.0,
        "best": best,
    }


def _strict_json(figure: go.Figure) -> str:
    """Write the figure as any viewer could read it: no NaN, no binary arrays."""
    text = str(figure.to_json())
    json.dumps(json.loads(text), allow_nan=False)
    assert "bdata" not in text
    return text


def test_learning_curve_shows_losses_and_the_best_auc() -> None:
    # two flags: each was the best when it was made
    history = [
        _validation(0.5, 0.77, best=True),
        _validation(1.0, 0.79, best=True),
        _validation(1.5, 0.78),
    ]
    figure = learning_curve_figure(history, title="Learning curve, x4")
    train, valid, curve, best = figure.data
    assert list(train.x) == list(valid.x) == list(curve.x) == [0.5, 1.0, 1.5]
    assert list(train.y) == [entry["train_loss"] for entry in history]
    assert list(valid.y) == [0.39] * 3
    assert list(curve.y) == [0.77, 0.79, 0.78]
    assert (train.yaxis, valid.yaxis, curve.yaxis, best.yaxis) == ("y", "y", "y2", "y2")
    assert (list(best.x), list(best.y)) == ([1.0], [0.79])
    assert "0.7900 at epoch 1" in figure.layout.title.subtitle.text
    assert "rows/s" in curve.hovertemplate
    _strict_json(figure)


def test_learning_curve_leaves_gaps_where_numbers_are_missing() -> None:
    history: list[dict[str, Any]] = [
        {"epoch": 1, "valid_auc": 0.7},
        {"epoch": 2, "valid_auc": None, "train_loss": math.nan, "best": True},
        {"epoch": 3, "valid_auc": math.inf, "train_loss": 0.4},
    ]
    figure = learning_curve_figure(history)
    train, _, curve = figure.data
    assert list(train.y) == [None, None, 0.4]
    assert list(curve.y) == [0.7, None, None]
    assert "rows/s" not in curve.hovertemplate
    _strict_json(figure)


def test_learning_curve_does_not_join_what_was_measured_on_other_rows() -> None:
    history = [
        {**_validation(1, 0.9, best=True), "stage": "phase_1", "dataset": "x1"},
        {**_validation(1, 0.8), "stage": "phase_1", "dataset": "x2"},
        {**_validation(2, 0.85, best=True), "stage": "phase_1", "dataset": "x2"},
        {**_validation(0.5, 0.6, best=True), "stage": "phase_2", "dataset": "x4"},
        {**_validation(1, 0.5), "stage": "phase_2", "dataset": "x4"},
    ]
    figure = learning_curve_figure(history)
    train, valid, curve, best = figure.data
    for trace in (train, valid, curve):
        assert list(trace.x) == [1, None, 2, 3, None, 3.5, 4]
        assert not trace.connectgaps
    assert list(curve.y) == [0.9, None, 0.8, 0.85, None, 0.6, 0.5]
    # The checkpoint is the last stage's best, though the others' numbers are higher.
    assert (list(best.x), list(best.y)) == ([3.5], [0.6])
    names = [(note.text, note.x) for note in figure.layout.annotations]
    assert names == [("phase_1, x1", 0), ("phase_1, x2", 1), ("phase_2, x4", 3)]
    _strict_json(figure)


def test_learning_curve_errors() -> None:
    with pytest.raises(ValueError, match="the history holds no validation"):
        learning_curve_figure([])
    with pytest.raises(ValueError, match=r"validation 1 \(counted from 0\) .* has no epoch"):
        learning_curve_figure([_validation(1, 0.7), {"valid_auc": 0.7}])


def test_the_figure_has_the_house_look_and_names_its_axes() -> None:
    figure = learning_curve_figure([_validation(1, 0.7)])
    assert figure.layout.template == TEMPLATE
    assert figure.layout.title.text
    assert all(axis.title.text for axis in figure.select_yaxes())
    assert list(figure.select_xaxes())[-1].title.text

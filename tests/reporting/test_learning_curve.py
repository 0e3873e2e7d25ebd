import math
from collections.abc import Callable
from itertools import groupby
from typing import Any

import plotly.graph_objects as go
import pytest
from pydantic import ValidationError

from llm_ctr_pipeline.reporting.learning_curve import learning_curve_figure
from llm_ctr_pipeline.reporting.plot_style import TEMPLATE
from llm_ctr_pipeline.training.history import (
    StageSummary,
    StageValidation,
    TrainedOn,
    TrainingResults,
    ValidationRecord,
)
from tests.records import RAN

StrictJson = Callable[[go.Figure], str]


def _validation(epoch: float, auc_: float, **changes: Any) -> dict[str, Any]:
    return {
        "stage": "end_to_end",
        "dataset": "x4",
        "epoch": epoch,
        "step": int(1000 * epoch),
        "train_loss": 0.4 - 0.01 * epoch,
        "train_accuracy": 83.0,
        "valid_loss": 0.39,
        "valid_accuracy": 83.1,
        "valid_auc": auc_,
        "valid_logloss": 0.39,
        "lr": 5e-4,
        "seconds": 60.0,
        "rows_per_second": 12_000.0,
        "improved": False,
        "best": False,
        **changes,
    }


def _results(history: list[dict[str, Any]]) -> TrainingResults:
    epochs = tuple(StageValidation(**entry) for entry in history)
    stages = [
        StageSummary(
            **{"stage": stage, "dataset": dataset, "components": None, "trained_parameters": 10},
            **{"stopped_early": False, "seconds": 60.0, "ran": RAN, "best": of[0]},
            trained_on=TrainedOn(rows="", feature_map=""),
            losses=tuple((one.step - back, one.train_loss) for one in of for back in (250, 0)),
        )
        for (stage, dataset), group in groupby(epochs, key=lambda one: (one.stage, one.dataset))
        for of in [[*group]]
    ]
    best = _validation(1, 0.7)
    for key in ("stage", "dataset", "best"):
        del best[key]
    return TrainingResults(
        **{"path": "single_phase", "dataset": "x4", "source": "avazu_x4", "seed": 42},
        **{"stopped_early": False, "best": ValidationRecord(**best), "seconds": 60.0},
        **{"rows_per_second": 12_000.0, "parameters": 10, "trained_parameters": 10},
        **{"settings": "5e77", "stages": stages, "epochs": epochs},
    )


def test_learning_curve_shows_losses_and_the_best_auc(strict_json: StrictJson) -> None:
    # two flags: each was the best when it was made
    history = [
        _validation(0.5, 0.77, best=True),
        _validation(1.0, 0.79, best=True),
        _validation(1.5, 0.78),
    ]
    figure = learning_curve_figure(_results(history))
    assert figure.layout.title.text == "Learning curve, single_phase"
    train, valid, curve, best = figure.data
    assert list(valid.x) == list(curve.x) == [500, 1000, 1500]
    # The training loss is known within the epochs too.
    assert list(train.x) == [250, 500, 750, 1000, 1250, 1500]
    assert list(train.y) == [entry["train_loss"] for entry in history for _ in range(2)]
    # An epoch ends at step 1000, and the best validation is there too.
    assert {shape.x0 for shape in figure.layout.shapes} == {1000}
    assert list(valid.y) == [0.39] * 3
    assert list(curve.y) == [0.77, 0.79, 0.78]
    assert (train.yaxis, valid.yaxis, curve.yaxis, best.yaxis) == ("y", "y", "y2", "y2")
    assert (list(best.x), list(best.y)) == ([1000], [0.79])
    assert "0.7900 at epoch 1" in figure.layout.meta["caption"]
    labels = [note.text.rpartition(" ")[2] for note in figure.layout.annotations]
    assert labels == ["training", "validation"]
    assert "rows/s" in curve.hovertemplate
    strict_json(figure)


def test_learning_curve_leaves_gaps_where_numbers_are_missing(strict_json: StrictJson) -> None:
    history = [
        _validation(1, 0.7, train_loss=-math.inf),
        _validation(2, math.nan, train_loss=math.nan, best=True),
        _validation(3, math.inf, train_loss=0.4, best=True),
    ]
    figure = learning_curve_figure(_results(history))
    train, _, curve = figure.data
    assert list(train.y) == [None, None, None, None, 0.4, 0.4]
    assert list(curve.y) == [0.7, None, None]
    strict_json(figure)


def test_learning_curve_does_not_join_what_was_measured_on_other_rows(
    strict_json: StrictJson,
) -> None:
    history = [
        {**_validation(1, 0.9, best=True), "stage": "phase_1", "dataset": "x1"},
        {**_validation(1, 0.8), "stage": "phase_1", "dataset": "x2"},
        {**_validation(2, 0.85, best=True), "stage": "phase_1", "dataset": "x2"},
        {**_validation(0.5, 0.6, best=True), "stage": "phase_2", "dataset": "x4"},
        {**_validation(1, 0.5), "stage": "phase_2", "dataset": "x4"},
    ]
    figure = learning_curve_figure(_results(history))
    train, valid, curve, best = figure.data
    assert list(train.x) == [750, 1000, None, 1750, 2000, 2750, 3000, None, 3250, 3500, 3750, 4000]
    for trace in (valid, curve):
        assert list(trace.x) == [1000, None, 2000, 3000, None, 3500, 4000]
        assert not trace.connectgaps
    assert list(curve.y) == [0.9, None, 0.8, 0.85, None, 0.6, 0.5]
    # The checkpoint is the last stage's best, though the others' numbers are higher.
    assert (list(best.x), list(best.y)) == ([3500], [0.6])
    names = [(note.text, note.x) for note in figure.layout.annotations if "phase" in note.text]
    assert names == [("phase_1, x1", 0), ("phase_1, x2", 1000), ("phase_2, x4", 3000)]
    strict_json(figure)


def test_learning_curve_errors() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        _results([])


def test_the_figure_has_the_house_look_and_names_its_axes() -> None:
    figure = learning_curve_figure(_results([_validation(1, 0.7)]))
    assert figure.layout.template == TEMPLATE
    assert figure.layout.title.text
    assert all(axis.title.text for axis in figure.select_yaxes())
    assert list(figure.select_xaxes())[-1].title.text

import re
from collections.abc import Callable
from typing import Any

import pytest

from llm_ctr_pipeline.metrics.slices import Slice, Slices
from llm_ctr_pipeline.reporting.calibration_figures import calibration_figure, score_distribution
from llm_ctr_pipeline.reporting.evaluation import Evaluation
from llm_ctr_pipeline.reporting.pages.model_report import model_report, verdict_of
from llm_ctr_pipeline.reporting.results import ScoredModel
from llm_ctr_pipeline.reporting.roc_figures import roc_figure
from llm_ctr_pipeline.reporting.slice_figures import auc_by_hour, auc_by_value
from tests.records import FACTS, summary_of

Make = Callable[..., list[ScoredModel]]
WEAK = Slice(
    **{"field": "site", "id": 3, "value": "<i>", "rows": 100, "clicks": 25},
    **{"auc": 0.52, "auc_low": 0.45, "auc_high": 0.58},
)


@pytest.fixture
def report(log: Callable[..., Any], tested: Callable[..., Any]) -> Callable[..., str]:
    """Write the report of a test."""

    def write(**changes: Any) -> str:
        predictions, evaluation = tested(*log(2000))
        slices = Slices(hour=None, slices=(WEAK, WEAK.model_copy(update={"auc_high": 0.99})))
        return model_report(
            evaluation,
            slices,
            summary_of("x4"),
            FACTS.model_copy(update=changes),
            roc_figure(predictions, evaluation),
            calibration_figure(predictions, evaluation),
            score_distribution(predictions, evaluation),
            auc_by_value(slices, evaluation),
            auc_by_hour(slices, evaluation),
        )

    return write


def test_the_report_needs_nothing_else_and_holds_plotly_once(report: Callable[..., str]) -> None:
    page = report()
    assert re.findall(r'(?:src|href)="[^"]*"', page.partition("</head>")[2]) == []
    assert page.count("* plotly.js v") == 1
    assert re.findall(r'<div id="([\w-]+)"', page) == ["roc", "calibration", "scores", "by-value"]
    assert "prefers-color-scheme: dark" in page
    assert '<meta name="viewport"' in page


def test_the_report_says_where_the_numbers_come_from(report: Callable[..., str]) -> None:
    page = report().partition("</head>")[2]
    for said in (FACTS.command, f"git checkout {FACTS.git_commit}", FACTS.machine, "c0de"):
        assert said in page, said
    assert "<td><code>training.epochs</code></td>" in page
    assert "The code was changed" not in page
    assert "The code was changed" in report(git_changed=True)
    assert "<p>None.</p>" in report(changed=())
    unknown = report(git_commit=None)
    assert "Which commit the code is of is not known" in unknown
    assert "git checkout" not in unknown


def test_values_that_are_surely_weaker_are_named(report: Callable[..., str]) -> None:
    page = report()
    assert page.count("site = &lt;i&gt;") == 1  # the other's interval holds the AUC of all rows
    assert "0.5200 <span>[0.4500, 0.5800]</span>" in page


@pytest.fixture
def evaluation(make_scored: Make) -> Evaluation:
    (model,) = make_scored("single_phase")
    return model.report.evaluation


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"auc_low": 0.49, "auc_high": 0.53}, "cannot be told from chance"),
        ({"auc_low": 0.40, "auc_high": 0.49}, "worse than chance"),
        ({"auc_low": 0.7, "auc_high": 0.79, "best_possible_auc": 0.78}, "told from the best"),
        (
            {"auc_low": 0.7, "auc_high": 0.75, "best_possible_auc": 0.8, "share_of_best": 0.75},
            "75.0% of the way",
        ),
        ({"auc_low": 0.7, "best_possible_auc": None, "share_of_best": None}, "better than chance"),
        ({"calibration_ratio": 1.25}, "25.0% too many clicks"),
        ({"calibration_ratio": 0.9}, "10.0% too few clicks"),
        ({"calibration_ratio": 1.0001}, "as many clicks as there were"),
    ],
)
def test_the_verdict_says_what_the_numbers_say(
    evaluation: Evaluation, changes: dict[str, Any], said: str
) -> None:
    assert said in " ".join(verdict_of(evaluation.model_copy(update=changes)))


@pytest.mark.parametrize(
    ("stopped", "best", "said"),
    [
        (True, 0, "stopped early, at epoch 2"),
        (False, 0, "best validation was at epoch 1 of 2"),
        (False, 1, "training for longer may gain more"),
    ],
)
def test_the_verdict_says_whether_training_was_long_enough(
    make_scored: Make, stopped: bool, best: int, said: str
) -> None:
    (model,) = make_scored("single_phase")
    training = model.report.training
    (first,) = training.epochs
    epochs = (first, first.model_copy(update={"epoch": 2.0, "step": 2 * first.step}))
    at = training.best.model_copy(
        update={key: getattr(epochs[best], key) for key in ("epoch", "step")}
    )
    changed = training.model_copy(update={"epochs": epochs, "best": at, "stopped_early": stopped})
    assert said in verdict_of(model.report.evaluation, changed)[-1]

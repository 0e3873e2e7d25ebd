"""The report of a model's test, and of the training before it: one page that needs nothing else."""

import plotly.graph_objects as go

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.metrics.slices import Slices
from llm_ctr_pipeline.reporting.comparison_table import count, duration
from llm_ctr_pipeline.reporting.evaluation import CHANCE_AUC, Evaluation
from llm_ctr_pipeline.reporting.pages.facts import RunFacts
from llm_ctr_pipeline.reporting.pages.page import report_page
from llm_ctr_pipeline.reporting.slice_figures import value_of
from llm_ctr_pipeline.training.history import TrainingResults

WEAKEST = 8  # values that are named
_SHORT = 16  # digits of a digest that tell it from others
_ROUNDED = 0.0005  # of a ratio: what three digits do not show

Rows = list[list[str]]


def model_report(
    evaluation: Evaluation,
    slices: Slices,
    summary: DatasetSummary,
    facts: RunFacts,
    roc: go.Figure,
    calibration: go.Figure,
    scores: go.Figure,
    by_value: go.Figure,
    by_hour: go.Figure,
    training: TrainingResults | None = None,
    learning_curve: go.Figure | None = None,
) -> str:
    """Write the report of a test, and of the training before it where that is of the same run.

    Returns:
        HTML with everything in it.
    """
    figures = {
        "roc": roc,
        "calibration": calibration,
        "scores": scores,
        "learning-curve": learning_curve,
        "by-value": by_value,
        "by-hour": by_hour,
    }
    shown = [(name, one) for name, one in figures.items() if one is not None and one.data]
    return report_page(
        "model.html",
        evaluation.title,
        evaluation=evaluation,
        verdict=verdict_of(evaluation, training),
        tiles=_tiles(evaluation, training),
        figures=shown,
        weakest=_weakest(slices, evaluation),
        stages=_stages(training) if training else [],
        splits=_splits(summary),
        data=f"{summary.dataset} ({summary.source}); feature map {summary.fingerprint[:_SHORT]}",
        facts=facts,
        extra=_extra(evaluation, training),
    )


def verdict_of(evaluation: Evaluation, training: TrainingResults | None = None) -> list[str]:
    """Say in words what the numbers come to: ranking, probabilities, and the training's length."""
    return [
        _on_ranking(evaluation),
        _on_probabilities(evaluation),
        *([_on_length(training)] if training else []),
    ]


def _on_ranking(evaluation: Evaluation) -> str:
    if evaluation.auc_low <= CHANCE_AUC <= evaluation.auc_high:
        return "It cannot be told from chance: the interval holds AUC 0.5."
    if evaluation.auc_high < CHANCE_AUC:
        return "It ranks clicks below non-clicks: worse than chance."
    best, share = evaluation.best_possible_auc, evaluation.share_of_best
    if best is None or share is None:
        return "It ranks better than chance: the interval lies above AUC 0.5."
    if evaluation.auc_low <= best <= evaluation.auc_high:
        return (
            f"The interval holds {best:.4f}, the best that any model can reach on this log: on "
            "these rows it cannot be told from the best."
        )
    return (
        f"It has gone {share:.1%} of the way from chance to {best:.4f}, the best that any model "
        "can reach on this log; the rest is more than other test rows would explain."
    )


def _on_probabilities(evaluation: Evaluation) -> str:
    excess = evaluation.calibration_ratio - 1
    if abs(excess) < _ROUNDED:
        said = "It predicts as many clicks as there were"
    else:
        said = f"It predicts {abs(excess):.1%} too {'many' if excess > 0 else 'few'} clicks"
    error = evaluation.expected_calibration_error
    return (
        f"{said}; a predicted click rate is off by {error:.4f} on average, where the click rate is "
        f"{evaluation.click_rate:.4f}."
    )


def _on_length(training: TrainingResults) -> str:
    last, best = training.epochs[-1], training.best
    if training.stopped_early:
        return (
            f"Training stopped early, at epoch {last.epoch:.4g}; the kept weights are those of "
            f"epoch {best.epoch:.4g}."
        )
    if best.step == last.step:
        return (
            f"The last validation, at epoch {last.epoch:.4g}, was the best: training for longer "
            "may gain more."
        )
    return f"The best validation was at epoch {best.epoch:.4g} of {last.epoch:.4g}."


def _tiles(evaluation: Evaluation, training: TrainingResults | None) -> list[tuple[str, str]]:
    tiles = [
        ("log loss, nats a row", f"{evaluation.logloss:.4f}"),
        ("accuracy", f"{evaluation.accuracy:.2f}%"),
        ("calibration error", f"{evaluation.expected_calibration_error:.4f}"),
        ("predicted / observed clicks", f"{evaluation.calibration_ratio:.3f}"),
    ]
    if evaluation.gauc is not None:
        tiles.append((f"gAUC within {evaluation.group_by}", f"{evaluation.gauc:.4f}"))
    if training:
        tiles += [
            ("training time", duration(training.seconds)),
            ("rows/s in training", f"{training.rows_per_second:,.0f}"),
            ("weights, trained", f"{count(training.trained_parameters)}"),
        ]
    return tiles


def _weakest(slices: Slices, evaluation: Evaluation) -> Rows:
    """The values on which ranking is surely worse than over all rows, the lowest AUC first."""
    below = [one for one in slices.slices if one.auc_high < evaluation.auc]
    below.sort(key=lambda one: one.auc)
    rows = [
        [
            f"{one.field} = {value_of(one)}",
            f"{one.rows:,}",
            f"{one.clicks / one.rows:.4f}",
            f"{one.auc:.4f} [{one.auc_low:.4f}, {one.auc_high:.4f}]",
        ]
        for one in below[:WEAKEST]
    ]
    return [["value", "rows", "click rate", "AUC [95%]"], *rows] if rows else []


def _stages(training: TrainingResults) -> Rows:
    titles = ["stage, dataset", "best valid. AUC", "at epoch", "time", "trained weights", "ran on"]
    return [
        titles,
        *(
            [
                f"{one.stage}, {one.dataset}",
                f"{one.best.valid_auc:.4f}",
                f"{one.best.epoch:.4g}",
                duration(one.seconds),
                count(one.trained_parameters),
                f"{one.ran.device}, {one.ran.precision}",
            ]
            for one in training.stages
        ),
    ]


def _splits(summary: DatasetSummary) -> Rows:
    titles = ["split", "rows", "click rate", "unknown ids", "fingerprint of the raw rows"]
    return [
        titles,
        *(
            [
                split,
                f"{one.rows:,}",
                f"{one.click_rate:.4f}",
                f"{one.unknown_share:.2%}",
                one.raw_fingerprint[:_SHORT],
            ]
            for split, one in summary.splits.items()
        ),
    ]


def _extra(evaluation: Evaluation, training: TrainingResults | None) -> Rows:
    trained = evaluation.trained
    rows = [
        ["seed", str(trained.seed)],
        ["trained by", f"{trained.path}, stage {trained.stage} on {trained.dataset}"],
        ["checkpoint (SHA-256)", evaluation.checkpoint],
    ]
    if trained.origin:
        origin = trained.origin
        rows.append(["starts from, or learns from", f"{origin.path}, seed {origin.seed}"])
    if training:
        rows.append(["settings (digest)", training.settings])
    return rows

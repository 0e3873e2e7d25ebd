"""Several models tested on the same rows: what each reached, and how each differs from one of them.

Shapes: N rows of a split.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.metrics.delong import (
    AucDifference,
    LoglossDifference,
    Placements,
    difference_of,
    holm,
    interval_of,
    paired_logloss_difference,
    place_rows,
)

LEVEL = 0.95
FEWEST_MODELS = 2

# What must be the same in the reports of two tests, or their rows differ.
SAME_TEST = ("dataset", "split", "data_fingerprint", "rows")
# What a training's report has to hold, and an older one may not.
NEEDED_OF_TRAINING = (
    *("seconds", "rows_per_second", "parameters", "trained_parameters", "seed"),
    "stages",
)

TWO_PHASE = ("two_phase", "two_phase_finetuned")
TWO_PHASE_NOTE = (
    "Trained on x1 and x2 before x4. The three re-encode and re-split one and the same log: as "
    "published, x1's and x2's training rows include most of x4's test rows."
)


class NotComparableError(RefusedError, ValueError):
    """Models were not tested on the same rows, or their results do not belong together."""


@dataclass(frozen=True)
class ModelReport:
    """What the reports say of one model's training and test.

    Attributes:
        name: what tables and figures call the model: its path, with the run where that is needed.
        path: the training path.
        evaluation: the test's report, as ``evaluation_<dataset>_<split>.json`` holds it.
        training: the training's report, as ``training_results.json`` holds it.
        run_id: the MLflow run that it comes from, if any.
    """

    name: str
    path: str
    evaluation: Mapping[str, Any]
    training: Mapping[str, Any]
    run_id: str | None = None


@dataclass(frozen=True)
class ScoredModel:
    """A model's reports and its predictions.

    Attributes:
        report: what its reports say.
        labels_N: [N], 0 or 1.
        probabilities_N: [N], predicted click probabilities, in the split's order of rows.
    """

    report: ModelReport
    labels_N: npt.NDArray[np.int8]
    probabilities_N: npt.NDArray[np.floating]


def check_reports(reports: Sequence[ModelReport], baseline: str) -> None:
    """Refuse reports of which no comparison can be made, before any prediction is read.

    Args:
        reports: of all models.
        baseline: the name of the model that the others are compared with.

    Raises:
        NotComparableError: Fewer than two models, no baseline among them, reports of an older
            version or of another training than was tested, tests of different rows.
    """
    names = [report.name for report in reports]
    if len(names) < FEWEST_MODELS:
        raise NotComparableError(
            f"a comparison needs {FEWEST_MODELS} models, and there is {', '.join(names) or 'none'}"
        )
    if baseline not in names:
        raise NotComparableError(
            f"compare.baseline is {baseline}, which is not among those compared: "
            f"choose one of {', '.join(names)}"
        )
    for report in reports:
        _check_training(report)
    first = reports[0]
    for other in reports[1:]:
        differing = [
            f"{key} {first.evaluation[key]} and {other.evaluation[key]}"
            for key in SAME_TEST
            if first.evaluation[key] != other.evaluation[key]
        ]
        if differing:
            raise NotComparableError(
                f"{first.name} and {other.name} were tested on different rows "
                f"({'; '.join(differing)}): train or evaluate both on the same data, or leave one "
                "out (compare.paths names those to compare)"
            )


def compare_models(models: Sequence[ScoredModel], baseline: str) -> dict[str, Any]:
    """Compare models on the rows that all were tested on.

    Args:
        models: at least two, all tested on the same rows.
        baseline: the name of the one that the others are compared with.

    Returns:
        The comparison in JSON types: what was tested, and one entry a model under ``models``, the
        baseline first. Differences are the model's number less the baseline's, with intervals of
        95%; ``p_value`` is DeLong's, ``p_value_holm`` the same corrected for the number of models.

    Raises:
        NotComparableError: See ``check_reports``; also if the labels differ, or predictions are
            not those that the report was made of.
    """
    reports = [model.report for model in models]
    check_reports(reports, baseline)
    check_labels(models)
    ordered = sorted(models, key=lambda model: model.report.name != baseline)
    reference, *others = ordered
    test = reference.report.evaluation
    placed = place(reference)
    entries = [_entry(reference, placed)]
    aucs, loglosses = [], []
    for model in others:
        placements = place(model)
        entries.append(_entry(model, placements))
        aucs.append(difference_of(placements, placed, LEVEL, split=model.report.name))
        loglosses.append(
            paired_logloss_difference(
                model.labels_N, model.probabilities_N, reference.probabilities_N, LEVEL
            )
        )
    corrected = holm([auc.p_value for auc in aucs])
    for entry, auc, logloss, p_value in zip(entries[1:], aucs, loglosses, corrected, strict=True):
        entry["difference"] = _difference(auc, logloss, p_value)
    return {
        **{key: test[key] for key in SAME_TEST},
        "click_rate": test["click_rate"],
        "source": test["source"],
        "best_possible_auc": test["best_possible_auc"],
        "level": LEVEL,
        "baseline": baseline,
        "models": entries,
        "caveats": caveats_of(reports),
    }


def check_labels(models: Sequence[ScoredModel]) -> None:
    """Refuse models whose rows carry different labels, or the same in another order.

    Args:
        models: all models.

    Raises:
        NotComparableError: Labels differ; the message says how many and the first such row.
    """
    first = models[0]
    for other in models[1:]:
        names = f"{first.report.name} and {other.report.name}"
        if first.labels_N.size != other.labels_N.size:
            raise NotComparableError(
                f"{names} were tested on different rows ({first.labels_N.size:,} and "
                f"{other.labels_N.size:,} predictions): evaluate both on the same data"
            )
        differs_N = first.labels_N != other.labels_N
        if differs_N.any():
            raise NotComparableError(
                f"{names} were tested on different rows, or in another order ({differs_N.sum():,} "
                f"labels differ, the first at row {int(differs_N.argmax()):,}, counted from 0): "
                "evaluate both on the same data"
            )


def place(model: ScoredModel) -> Placements:
    """Rank a model's rows, and check that its report is of these predictions.

    Args:
        model: the model.

    Returns:
        The ranking, for ``interval_of`` and ``difference_of``.

    Raises:
        NotComparableError: The report names another AUC than the predictions have.
    """
    name, reported = model.report.name, model.report.evaluation["auc"]
    placements = place_rows(model.labels_N, model.probabilities_N, split=name)
    # scikit-learn sums the curve's area in another order
    if not math.isclose(placements.mean, reported, abs_tol=1e-9):
        raise NotComparableError(
            f"{name}: its predictions have the AUC {placements.mean:.6f}, its report says "
            f"{reported:.6f}, so they are of two tests: evaluate it again"
        )
    return placements


def caveats_of(reports: Sequence[ModelReport]) -> list[str]:
    """Say where models that were tested on the same rows have not learned from the same data.

    Args:
        reports: of all models.

    Returns:
        A sentence for each dataset of which some models met other training rows, or the same with
        other ids, and for each model that starts from another training of the baseline than the
        one compared.
    """
    groups: dict[str, dict[tuple[str, str], dict[str, None]]] = {}
    for report in reports:
        for stage in report.training["stages"]:
            data = stage["trained_on"]
            alike = groups.setdefault(stage["dataset"], {})
            alike.setdefault((data["rows"], data["feature_map"]), {})[report.name] = None
    caveats = [
        f"Not trained on the same data: the training rows of {dataset}, or their ids, are others "
        f"for {' than for '.join(', '.join(names) for names in alike.values())}."
        for dataset, alike in groups.items()
        if len(alike) > 1
    ]
    baselines = [report.evaluation["trained"] for report in reports if report.path == "deepfm"]
    for report in reports:
        origin = report.evaluation["trained"].get("origin")
        if origin and baselines and origin not in baselines:
            caveats.append(f"{report.name} starts from another training of deepfm than this one.")
    return caveats


def note_of(path: str) -> str | None:
    """Say what must be known of a path's numbers.

    Args:
        path: the training path.

    Returns:
        The note that stands next to them; None if there is nothing to say.
    """
    return TWO_PHASE_NOTE if path in TWO_PHASE else None


def _check_training(report: ModelReport) -> None:
    """Raise where the training's report is of an older version, or not of the tested model."""
    missing = [key for key in NEEDED_OF_TRAINING if key not in report.training]
    stages = report.training.get("stages", [])
    missing += ["trained_on"] if any("trained_on" not in stage for stage in stages) else []
    if missing:
        raise NotComparableError(
            f"{report.name} was trained with an older version of this project: its "
            f"training_results.json has no {', '.join(missing)}; train it again"
        )
    tested = report.evaluation["trained"]
    if any(report.training.get(key, value) != value for key, value in tested.items()):
        raise NotComparableError(
            f"{report.name}: the test's report is of another training than its "
            "training_results.json: evaluate it again"
        )


def _entry(model: ScoredModel, placements: Placements) -> dict[str, Any]:
    """What one model reached and what that took."""
    report = model.report
    evaluation, training = report.evaluation, report.training
    interval = interval_of(placements, LEVEL)
    return {
        "name": report.name,
        "path": report.path,
        "run_id": report.run_id,
        "note": note_of(report.path),
        "auc": interval.auc,
        "auc_low": interval.low,
        "auc_high": interval.high,
        "logloss": evaluation["logloss"],
        "accuracy": evaluation["accuracy"],
        "expected_calibration_error": evaluation["expected_calibration_error"],
        "calibration_ratio": evaluation["calibration_ratio"],
        "share_of_best": evaluation["share_of_best"],
        "seed": training["seed"],
        "training_seconds": training["seconds"],
        "rows_per_second": training["rows_per_second"],
        "parameters": training["parameters"],
        "trained_parameters": training["trained_parameters"],
        "difference": None,
    }


def _difference(auc: AucDifference, logloss: LoglossDifference, corrected: float) -> dict[str, Any]:
    return {
        "auc": auc.difference,
        "auc_low": auc.low,
        "auc_high": auc.high,
        "z": auc.z,
        "p_value": auc.p_value,
        "p_value_holm": corrected,
        "logloss": logloss.difference,
        "logloss_low": logloss.low,
        "logloss_high": logloss.high,
    }

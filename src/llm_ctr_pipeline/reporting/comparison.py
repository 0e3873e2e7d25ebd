"""Several models tested on the same rows: what each reached, and how each differs from one of them.

Shapes: N rows of a split.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.metrics.comparison import (
    Difference,
    MeasuredModel,
    differences_to_first,
    measure_model,
)
from llm_ctr_pipeline.metrics.delong import LEVEL, Placements, interval_of, place_rows
from llm_ctr_pipeline.reporting.evaluation import now
from llm_ctr_pipeline.reporting.results import (
    ModelReport,
    NotComparableError,
    ScoredModel,
    by_model,
    model_names,
)
from llm_ctr_pipeline.training.history import TrainedOn
from llm_ctr_pipeline.training.settings import DISTILLED_PATH, TWO_PHASE_PATHS

# What must be the same in the reports of two tests, or their rows differ.
SAME_TEST = ("dataset", "split", "data_fingerprint", "rows")
# What a comparison repeats of a model's reports: means over its trainings, and what all share.
OF_EVALUATION = (
    *("logloss", "accuracy", "expected_calibration_error", "calibration_ratio", "share_of_best"),
)
OF_TRAINING = {"parameters", "trained_parameters"}

TWO_PHASE_NOTE = (
    "Trained on x1 and x2 before x4. The three re-encode and re-split one and the same log: as "
    "published, x1's and x2's training rows include most of x4's test rows."
)
MARK = "†"  # on every number of a model that has a note


class ComparedModel(Frozen):
    """What one of the compared models reached and what that took; means over its seeds.

    Attributes:
        name: Its path, with the run where that is needed.
        path: The training path.
        run_ids: Of each seed the MLflow run that it comes from, if any.
        note: What must be known of its numbers, if anything.
        auc: Area under the ROC curve; `auc_low` and `auc_high` are the ends of its 95% interval by
            the rows.
        auc_seed_std: Its standard deviation over the seeds; None for a single one.
        logloss: In nats a row; this and what follows to `share_of_best` as in `Evaluation`.
        logloss_seed_std: Its standard deviation over the seeds; None for a single one.
        gauc: AUC within the values of the comparison's `group_by`; None where there is none.
        seeds: Of the trainings.
        training_seconds: Training time of all stages of one, validation not included.
        rows_per_second: Rows trained on a second.
        parameters: Weights of the whole model.
        trained_parameters: Those that some stage trained.
        difference: Its numbers less the baseline's; None for the baseline.
    """

    name: str
    path: str
    run_ids: tuple[str | None, ...]
    note: str | None
    auc: float
    auc_low: float
    auc_high: float
    auc_seed_std: float | None
    logloss: float
    logloss_seed_std: float | None
    accuracy: float
    expected_calibration_error: float
    calibration_ratio: float
    share_of_best: float | None
    gauc: float | None
    seeds: tuple[int, ...]
    training_seconds: float
    rows_per_second: float
    parameters: int
    trained_parameters: int
    difference: Difference | None

    @property
    def label(self) -> str:
        """Its name in tables and figures, marked where there is a note on its numbers."""
        return f"{self.name} {MARK}" if self.note else self.name


class Comparison(Frozen):
    """Models compared on the rows that all were tested on: `comparison.json`.

    Attributes:
        dataset: The dataset of the rows.
        split: Their split.
        data_fingerprint: The raw split's.
        rows: How many there are.
        click_rate: Share of them that are clicks.
        source: Where they come from.
        best_possible_auc: The best AUC that any model can reach, where it is known.
        group_by: The field by which all tests grouped the rows for gAUC; None where some did not.
        level: Confidence level of all intervals.
        baseline: The name of the model that the others are compared with.
        models: The baseline first.
        caveats: Sentences on where models have not learned from the same data.
        missing: The command that makes the results, for each path that has none.
        timestamp: When they were compared, ISO 8601 with a time zone.
    """

    dataset: str
    split: str
    data_fingerprint: str
    rows: int
    click_rate: float
    source: str
    best_possible_auc: float | None
    group_by: str | None
    level: float
    baseline: str
    models: tuple[ComparedModel, ...]
    caveats: tuple[str, ...]
    missing: dict[str, str]
    timestamp: str

    @property
    def title(self) -> str:
        """What was tested, in one line."""
        return (
            f"{self.dataset} {self.split}: {self.rows:,} rows, click rate {self.click_rate:.4f} "
            f"({self.source})"
        )

    @property
    def notes(self) -> list[str]:
        """What must be known of marked models, each note once."""
        notes = {model.note for model in self.models if model.note}
        return [f"{MARK} {note}" for note in sorted(notes)]


def check_reports(reports: Sequence[ModelReport], baseline: str) -> str:
    """Refuse reports of which no comparison can be made, before any prediction is read.

    Args:
        reports: The models'.
        baseline: The name, the path or the MLflow run's id of one of them.

    Returns:
        The baseline's name.

    Raises:
        NotComparableError: No one model is the baseline, reports are of another training than was
            tested, or tests of different rows.
    """
    name = _baseline_name(reports, baseline)
    for report in reports:
        if not report.training.is_of(report.evaluation.trained):
            raise NotComparableError(
                f"{report.name}: the test's report is of another training than its "
                "training_results.json: evaluate it again"
            )
    first = reports[0]
    for other in reports[1:]:
        differing = [
            f"{key} {one} and {another}"
            for key in SAME_TEST
            if (one := getattr(first.evaluation, key))
            != (another := getattr(other.evaluation, key))
        ]
        if differing:
            raise NotComparableError(
                f"{first.name} and {other.name} were tested on different rows "
                f"({'; '.join(differing)}): train or evaluate both on the same data, or leave one "
                "out (compare.paths names those to compare)"
            )
    return name


def compare_models(
    models: Sequence[ScoredModel], baseline: str, missing: Mapping[str, str] | None = None
) -> Comparison:
    """Compare models on the rows that all were tested on.

    Args:
        models: Of at least two models, all tested on the same rows; those of one model with
            several seeds are told by their settings, see `model_names`.
        baseline: Which of them the others are compared with; see `check_reports`.
        missing: The command that makes the results, for each path that has none.

    Returns:
        The comparison, the baseline first.

    Raises:
        NotComparableError: See `check_reports`; also if the labels differ, or predictions are not
            those that the report was made of.
    """
    reports = [model.report for model in models]
    name = check_reports(reports, baseline)
    _check_labels(models)
    trainings = by_model(models)
    ordered = sorted(trainings, key=lambda each: each != name)
    measured = [_measure(trainings[each]) for each in ordered]
    differences = differences_to_first(measured, ordered)
    test = models[0].report.evaluation
    groupings = {report.evaluation.group_by for report in reports}
    group_by = groupings.pop() if len(groupings) == 1 else None
    return Comparison(
        **test.model_dump(include={*SAME_TEST, "click_rate", "source", "best_possible_auc"}),
        group_by=group_by,
        level=LEVEL,
        baseline=name,
        models=tuple(
            _compared(each, trainings[each], numbers, difference, group_by)
            for each, numbers, difference in zip(
                ordered, measured, [None, *differences], strict=True
            )
        ),
        caveats=_caveats(reports),
        missing=dict(missing or {}),
        timestamp=now(),
    )


def _baseline_name(reports: Sequence[ModelReport], baseline: str) -> str:
    """Find the name of the model that a name, a path or the id of an MLflow run stands for."""
    models = model_names(reports)
    found = {
        models[report.name]
        for report in reports
        if baseline in {models[report.name], report.name, report.path, report.run_id}
    }
    if baseline in found:  # others of its path have names of their own
        return baseline
    if len(found) == 1:
        return found.pop()
    choices = ", ".join(report.run_id or report.name for report in reports)
    what = f"the path of {len(found)} of the models" if found else "none of those compared"
    raise NotComparableError(
        f"compare.baseline is {baseline}, which is {what}: choose one of {choices}"
    )


def _check_labels(models: Sequence[ScoredModel]) -> None:
    """Refuse models whose rows carry different labels, or the same in another order."""
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


def _measure(trainings: Sequence[ScoredModel]) -> MeasuredModel:
    """What a model's trainings reached, checked against their reports."""
    probabilities = [training.probabilities_N for training in trainings]
    return measure_model(trainings[0].labels_N, probabilities, [*map(_place, trainings)])


def _place(model: ScoredModel) -> Placements:
    """Rank a model's rows, and check that its report is of these predictions."""
    name, reported = model.report.name, model.report.evaluation.auc
    placements = place_rows(model.labels_N, model.probabilities_N, split=name)
    # Scikit-learn sums the curve's area in another order.
    if not math.isclose(placements.mean, reported, abs_tol=1e-9):
        raise NotComparableError(
            f"{name}: its predictions have the AUC {placements.mean:.6f}, its report says "
            f"{reported:.6f}, so they are of two tests: evaluate it again"
        )
    return placements


def _caveats(reports: Sequence[ModelReport]) -> tuple[str, ...]:
    """Say where models that were tested on the same rows have not learned from the same data.

    That is where some met other training rows of a dataset, or the same with other ids, and where
    one starts from another training of the baseline than the one compared.
    """
    names = model_names(reports)
    groups: dict[str, dict[TrainedOn, dict[str, None]]] = {}
    for report in reports:
        for stage in report.training.stages:
            alike = groups.setdefault(stage.dataset, {})
            alike.setdefault(stage.trained_on, {})[names[report.name]] = None
    caveats = [
        f"Not trained on the same data: the training rows of {dataset}, or their ids, are others "
        f"for {' than for '.join(', '.join(those) for those in alike.values())}."
        for dataset, alike in groups.items()
        if len(alike) > 1
    ]
    for report in reports:
        origin = report.evaluation.trained.origin
        compared = [one.evaluation.trained for one in reports if origin and one.path == origin.path]
        if origin and compared and origin not in compared:
            did = "learned" if report.path == DISTILLED_PATH else "starts"
            these = "this one" if len(compared) == 1 else "these"
            name = names[report.name]
            caveats.append(f"{name} {did} from another training of {origin.path} than {these}.")
    return tuple(dict.fromkeys(caveats))


def _compared(
    name: str,
    trainings: Sequence[ScoredModel],
    measured: MeasuredModel,
    difference: Difference | None,
    group_by: str | None,
) -> ComparedModel:
    reports = [training.report for training in trainings]
    path, interval = reports[0].path, interval_of(measured.placements)
    return ComparedModel(
        name=name,
        path=path,
        run_ids=tuple(report.run_id for report in reports),
        note=TWO_PHASE_NOTE if path in TWO_PHASE_PATHS else None,
        auc=interval.value,
        auc_low=interval.low,
        auc_high=interval.high,
        auc_seed_std=measured.aucs.std,
        logloss_seed_std=measured.loglosses.std,
        **{key: _mean([getattr(one.evaluation, key) for one in reports]) for key in OF_EVALUATION},
        gauc=_mean([one.evaluation.gauc for one in reports]) if group_by else None,
        **reports[0].training.model_dump(include=OF_TRAINING),
        seeds=tuple(report.training.seed for report in reports),
        training_seconds=fmean(report.training.seconds for report in reports),
        rows_per_second=fmean(report.training.rows_per_second for report in reports),
        difference=difference,
    )


def _mean(values: Sequence[float | None]) -> Any:
    """The mean; None where a value is missing."""
    return None if None in values else fmean(values)  # type: ignore[arg-type]

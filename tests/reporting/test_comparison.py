import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llm_ctr_pipeline.metrics.comparison import holm, logloss_difference, row_losses
from llm_ctr_pipeline.metrics.delong import difference_of, place_rows
from llm_ctr_pipeline.reporting.comparison import Comparison, compare_models
from llm_ctr_pipeline.reporting.comparison_table import markdown_of
from llm_ctr_pipeline.reporting.results import NotComparableError, ScoredModel
from llm_ctr_pipeline.training.history import StageSummary, TrainedOn
from tests.records import retrained

PATHS = ("single_phase", "deepfm", "two_phase", "two_phase_finetuned")

Make = Callable[..., list[ScoredModel]]


def changed(
    model: ScoredModel,
    evaluation: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    **fields: Any,
) -> ScoredModel:
    """Copy a model with other reports or predictions."""
    report = dataclasses.replace(
        model.report,
        evaluation=model.report.evaluation.model_copy(update=evaluation),
        training=model.report.training.model_copy(update=training),
    )
    return dataclasses.replace(model, report=report, **fields)


def test_the_baseline_comes_first_and_has_no_difference(make_scored: Make) -> None:
    comparison = compare_models(make_scored(*PATHS), "deepfm")
    names = [model.name for model in comparison.models]
    assert names == ["deepfm", "single_phase", "two_phase", "two_phase_finetuned"]
    assert comparison.models[0].difference is None
    text = json.dumps(comparison.to_json(), allow_nan=False)
    assert Comparison.from_json(json.loads(text)) == comparison


def test_each_models_numbers_are_those_of_its_reports(make_scored: Make) -> None:
    models = make_scored(*PATHS)
    comparison = compare_models(models, "single_phase")
    assert (comparison.dataset, comparison.split, comparison.rows) == ("x4", "test", 500)
    assert (comparison.data_fingerprint, comparison.baseline) == ("f00d", "single_phase")
    for model, entry in zip(models, comparison.models, strict=True):
        evaluation, training = model.report.evaluation, model.report.training
        for key in ("auc", "auc_low", "auc_high", "logloss", "accuracy", "share_of_best"):
            assert getattr(entry, key) == pytest.approx(getattr(evaluation, key)), key
        for key in ("expected_calibration_error", "calibration_ratio"):
            assert getattr(entry, key) == getattr(evaluation, key)
        assert entry.training_seconds == training.seconds
        for key in ("rows_per_second", "parameters", "trained_parameters"):
            assert getattr(entry, key) == getattr(training, key)
        assert (entry.seeds, entry.run_ids) == ((training.seed,), (None,))
        assert (entry.auc_seed_std, entry.logloss_seed_std) == (None, None)


def test_differences_are_paired_and_p_values_corrected(make_scored: Make) -> None:
    models = make_scored(*PATHS)
    comparison = compare_models(models, "deepfm")
    base = models[1]
    others = [models[0], *models[2:]]
    placed = place_rows(base.labels_N, base.probabilities_N)
    expected = [difference_of(place_rows(m.labels_N, m.probabilities_N), placed) for m in others]
    corrected = holm([difference.p_value for difference in expected])
    for model, auc, p_value, entry in zip(
        others, expected, corrected, comparison.models[1:], strict=True
    ):
        found = entry.difference
        assert found is not None
        assert (found.auc, found.auc_low) == (auc.value, auc.low)
        assert (found.auc_high, found.p_value) == (auc.high, auc.p_value)
        assert found.p_value_holm == p_value
        losses = [row_losses(one.labels_N, one.probabilities_N) for one in (model, base)]
        logloss = logloss_difference(*losses)
        assert (found.logloss, found.logloss_low) == (logloss.value, logloss.low)
        # models get noisier in the order of PATHS
        assert found.auc > 0 if model is models[0] else found.auc < 0


def test_a_note_stands_at_every_two_phase_model_and_no_other(make_scored: Make) -> None:
    entries = compare_models(make_scored(*PATHS), "deepfm").models
    notes = {entry.name: entry.note for entry in entries}
    assert notes["deepfm"] is None
    assert notes["single_phase"] is None
    assert "training rows include most of x4's test rows" in str(notes["two_phase"])
    assert notes["two_phase_finetuned"] == notes["two_phase"]


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"dataset": "x1"}, r"dataset x4 and x1"),
        ({"split": "valid"}, r"split test and valid"),
        ({"data_fingerprint": "beef"}, r"data_fingerprint f00d and beef"),
        ({"rows": 400, "split": "valid"}, r"split test and valid; rows 500 and 400"),
    ],
)
def test_reports_of_other_rows_are_refused(
    make_scored: Make, evaluation: dict[str, Any], message: str
) -> None:
    deepfm, single_phase = make_scored("deepfm", "single_phase")
    with pytest.raises(NotComparableError, match=message) as caught:
        compare_models([deepfm, changed(single_phase, evaluation)], "deepfm")
    assert "deepfm and single_phase were tested on different rows" in str(caught.value)


def test_labels_in_another_order_are_refused(make_scored: Make) -> None:
    deepfm, single_phase = make_scored("deepfm", "single_phase")
    labels = single_phase.labels_N.copy()
    first, second = int(np.argmax(labels == 0)), int(np.argmax(labels == 1))
    labels[[first, second]] = labels[[second, first]]
    message = rf"2 labels differ, the first at row {min(first, second)}, counted from 0"
    with pytest.raises(NotComparableError, match=message):
        compare_models([deepfm, changed(single_phase, labels_N=labels)], "deepfm")


def test_another_number_of_predictions_is_refused(make_scored: Make) -> None:
    deepfm, single_phase = make_scored("deepfm", "single_phase")
    shorter = changed(
        single_phase,
        labels_N=single_phase.labels_N[:-1],
        probabilities_N=single_phase.probabilities_N[:-1],
    )
    with pytest.raises(NotComparableError, match="500 and 499 predictions"):
        compare_models([deepfm, shorter], "deepfm")


def test_predictions_of_another_test_than_the_report_are_refused(make_scored: Make) -> None:
    deepfm, single_phase = make_scored("deepfm", "single_phase")
    other = changed(single_phase, probabilities_N=deepfm.probabilities_N)
    with pytest.raises(NotComparableError, match=r"single_phase: its predictions have the AUC"):
        compare_models([deepfm, other], "deepfm")


def test_a_model_trained_again_but_not_tested_again_is_refused(make_scored: Make) -> None:
    deepfm, single_phase = make_scored("deepfm", "single_phase")
    best = single_phase.report.training.best.model_copy(update={"valid_auc": 0.71})
    again = changed(single_phase, training={"best": best})
    with pytest.raises(NotComparableError, match="the test's report is of another training"):
        compare_models([deepfm, again], "deepfm")


def trained_on(
    model: ScoredModel, dataset: str, rows: str, feature_map: str = "cafe"
) -> StageSummary:
    (stage,) = model.report.training.stages
    data = TrainedOn(rows=rows, feature_map=feature_map)
    return stage.model_copy(update={"dataset": dataset, "trained_on": data})


@pytest.mark.parametrize("other", [("x4", "beef"), ("x4", "f00d", "babe")])
def test_models_that_learned_from_other_rows_or_ids_are_named(
    make_scored: Make, other: tuple[str, ...]
) -> None:
    models = make_scored("deepfm", "single_phase", "two_phase")
    assert compare_models(models, "deepfm").caveats == ()
    models[0] = changed(models[0], training={"stages": (trained_on(models[0], *other),)})
    comparison = compare_models(models, "deepfm")
    (caveat,) = comparison.caveats
    assert "the training rows of x4, or their ids, are others for deepfm than for single" in caveat
    assert caveat.endswith("for single_phase, two_phase.")
    assert caveat in markdown_of(comparison)


def test_other_datasets_of_the_first_phase_are_told_apart(make_scored: Make) -> None:
    models = make_scored("deepfm", "two_phase", "two_phase_finetuned")
    for place, rows in ((1, "ace"), (2, "bad")):
        data = (("x1", rows), ("x2", "fee"), ("x4", "f00d"))
        stages = tuple(trained_on(models[place], *one) for one in data)
        models[place] = changed(models[place], training={"stages": stages})
    (caveat,) = compare_models(models, "deepfm").caveats
    assert "rows of x1, or their ids, are others for two_phase than for two_phase_f" in caveat


def test_a_model_that_starts_from_another_baseline_is_named(make_scored: Make) -> None:
    deepfm, two_phase = make_scored("deepfm", "two_phase")
    trained = two_phase.report.evaluation.trained
    same = deepfm.report.evaluation.trained
    for origin, caveats in (
        (same, ()),
        (
            same.model_copy(update={"seed": 8}),
            ("two_phase starts from another training of deepfm than this one.",),
        ),
    ):
        model = changed(two_phase, {"trained": trained.model_copy(update={"origin": origin})})
        assert compare_models([deepfm, model], "deepfm").caveats == caveats


def test_a_model_that_learned_from_another_teacher_is_named(make_scored: Make) -> None:
    deepfm, single_phase, distilled = make_scored("deepfm", "single_phase", "distilled")
    trained = distilled.report.evaluation.trained
    same = single_phase.report.evaluation.trained
    for seed, caveats in (
        (same.seed, ()),
        (99, ("distilled learned from another training of single_phase than this one.",)),
    ):
        origin = same.model_copy(update={"seed": seed})
        model = changed(distilled, {"trained": trained.model_copy(update={"origin": origin})})
        assert compare_models([deepfm, single_phase, model], "deepfm").caveats == caveats
        assert compare_models([deepfm, model], "deepfm").caveats == ()  # its teacher is not there


def test_a_baseline_that_is_none_of_the_models_is_refused(make_scored: Make) -> None:
    models = make_scored("deepfm", "single_phase")
    with pytest.raises(NotComparableError, match=r"two_phase, which is none of .*deepfm, single"):
        compare_models(models, "two_phase")


def of_seeds(make_scored: Make, *groups: tuple[str, str, int]) -> list[ScoredModel]:
    """Trainings as (path, settings, seed), named as `compare` names them."""
    models = make_scored(*(path for path, _, _ in groups))
    names = [path if not place else f"{path} {place}" for place, (path, _, _) in enumerate(groups)]
    return [
        retrained(model, name, seed=seed, settings=settings, run_id=name if place else None)
        for place, (model, name, (_, settings, seed)) in enumerate(
            zip(models, names, groups, strict=True)
        )
    ]


SEEDS = (
    *(("deepfm", "a", 42), ("single_phase", "b", 42), ("deepfm", "a", 43)),
    *(("single_phase", "b", 43), ("deepfm", "a", 44)),
)


def test_trainings_with_other_seeds_are_one_model(make_scored: Make) -> None:
    models = of_seeds(make_scored, *SEEDS)
    comparison = compare_models(models, "single_phase")
    single, deepfm = comparison.models
    assert (single.name, single.seeds, single.run_ids) == (
        *("single_phase", (42, 43)),
        ("single_phase 1", "single_phase 3"),
    )
    assert (deepfm.name, deepfm.seeds) == ("deepfm", (42, 43, 44))
    assert deepfm.run_ids == (None, "deepfm 2", "deepfm 4")
    reports = [models[place].report for place in (0, 2, 4)]
    for key in ("auc", "logloss", "accuracy", "calibration_ratio", "share_of_best"):
        of_each = [getattr(report.evaluation, key) for report in reports]
        assert getattr(deepfm, key) == pytest.approx(np.mean(of_each)), key
        if key in {"auc", "logloss"}:
            std = getattr(deepfm, f"{key}_seed_std")
            assert std == pytest.approx(np.std(of_each, ddof=1))
    assert deepfm.training_seconds == pytest.approx(np.mean([r.training.seconds for r in reports]))
    assert deepfm.auc_low < deepfm.auc < deepfm.auc_high
    found = deepfm.difference
    assert found is not None
    assert found.auc == pytest.approx(deepfm.auc - single.auc)
    assert found.logloss == pytest.approx(deepfm.logloss - single.logloss)
    assert found.degrees_of_freedom is not None
    assert Comparison.from_json(json.loads(json.dumps(comparison.to_json()))) == comparison


@pytest.mark.parametrize("baseline", ["single_phase", "single_phase 1", "single_phase 3"])
def test_a_baseline_is_found_by_any_of_its_trainings(make_scored: Make, baseline: str) -> None:
    comparison = compare_models(of_seeds(make_scored, *SEEDS), baseline)
    assert comparison.baseline == "single_phase"


def test_other_settings_and_a_seed_that_comes_twice_are_models_of_their_own(
    make_scored: Make,
) -> None:
    other = (("deepfm", "a", 42), ("deepfm", "b", 42), ("deepfm", "a", 43), ("deepfm", "b", 44))
    comparison = compare_models(of_seeds(make_scored, *other), "deepfm 2")
    assert [(model.name, model.seeds) for model in comparison.models] == [
        ("deepfm", (42, 43)),
        ("deepfm 1", (42, 44)),
    ]
    twice = (("deepfm", "a", 42), ("deepfm", "a", 42), ("single_phase", "a", 43))
    comparison = compare_models(of_seeds(make_scored, *twice), "single_phase")
    assert [(model.name, model.seeds) for model in comparison.models] == [
        *(("single_phase", (43,)), ("deepfm", (42,)), ("deepfm 1", (42,))),
    ]


def test_seeds_that_start_from_the_baselines_seeds_need_no_caveat(make_scored: Make) -> None:
    trainings = (("deepfm", "a", 42), ("deepfm", "a", 43), *(("two_phase", "b", s) for s in (1, 2)))
    models = of_seeds(make_scored, *trainings)
    for place, start in ((2, 0), (3, 1)):
        origin = models[start].report.evaluation.trained
        trained = models[place].report.evaluation.trained.model_copy(update={"origin": origin})
        models[place] = changed(models[place], {"trained": trained})
    assert compare_models(models, "deepfm").caveats == ()
    without = compare_models([models[0], *models[2:]], "deepfm").caveats
    assert without == ("two_phase starts from another training of deepfm than this one.",)


def test_gaucs_are_compared_where_all_are_of_one_field(make_scored: Make) -> None:
    models = make_scored("deepfm", "single_phase")
    grouped = [
        changed(model, {"group_by": "site_id", "gauc": gauc, "gauc_rows": 9})
        for model, gauc in zip(models, (0.6, 0.7), strict=True)
    ]
    comparison = compare_models(grouped, "deepfm")
    assert comparison.group_by == "site_id"
    assert [model.gauc for model in comparison.models] == [0.6, 0.7]
    mixed = compare_models([grouped[0], changed(grouped[1], {"group_by": "app_id"})], "deepfm")
    assert mixed.group_by is None
    assert [model.gauc for model in mixed.models] == [None, None]

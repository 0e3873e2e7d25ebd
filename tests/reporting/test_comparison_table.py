from collections.abc import Callable
from typing import Any

import pytest

from llm_ctr_pipeline.reporting.comparison import TWO_PHASE_NOTE, Comparison, compare_models
from llm_ctr_pipeline.reporting.comparison_table import (
    duration,
    legend_of,
    markdown_of,
    tables_of,
)
from llm_ctr_pipeline.reporting.results import ScoredModel

Make = Callable[..., list[ScoredModel]]

MODEL: dict[str, Any] = {
    **{"name": "deepfm", "path": "deepfm", "run_ids": [None], "note": None},
    **{"auc": 0.75755, "auc_low": 0.7489, "auc_high": 0.766, "share_of_best": 0.819},
    **{"auc_seed_std": None, "logloss_seed_std": None, "gauc": None},
    **{"logloss": 0.40204, "accuracy": 83.085, "expected_calibration_error": 0.0232},
    **{"calibration_ratio": 1.131, "seeds": [42], "training_seconds": 6.12},
    **{"rows_per_second": 52000},
    **{"parameters": 16_340_000, "trained_parameters": 991, "difference": None},
}
DIFFERENCE = {
    **{"auc": -0.00186, "auc_low": -0.0048, "auc_high": 0.0011, "z": -1.2},
    "degrees_of_freedom": None,
    **{"p_value": 0.07, "p_value_holm": 0.21},
    **{"logloss": -0.0008, "logloss_low": -0.0025, "logloss_high": 0.0008},
}
COMPARISON: dict[str, Any] = {
    **{"dataset": "x4", "split": "test", "data_fingerprint": "f00d", "rows": 20000},
    **{"click_rate": 0.1757, "source": "generated log", "best_possible_auc": 0.8144},
    **{"group_by": None, "level": 0.95, "baseline": "deepfm", "caveats": [], "missing": {}},
    "models": [
        MODEL,
        MODEL | {"name": "two_phase", "note": TWO_PHASE_NOTE, "difference": DIFFERENCE},
    ],
    "timestamp": "2026-01-01T00:00:00+00:00",
}


def made(**changes: Any) -> Comparison:
    return Comparison.from_json(COMPARISON | changes)


def test_cells_are_what_they_say() -> None:
    ranking, probabilities, cost = tables_of(made())
    assert ranking.columns == ("model", "AUC [95%]", "AUC − deepfm [95%]", "p, Holm", "of best")
    interval = "0.7575 [0.7489, 0.7660]"
    assert ranking.rows == (
        ("deepfm", interval, "–", "–", "81.9%"),
        ("two_phase †", interval, "−0.0019 [−0.0048, +0.0011]", "0.21", "81.9%"),
    )
    assert probabilities.rows[1] == (
        *("two_phase †", "0.4020", "−0.0008 [−0.0025, +0.0008]"),
        *("83.08%", "0.0232", "1.131"),
    )
    assert cost.rows[0] == ("deepfm", "6.1 s", "52,000", "16.3M", "991")


@pytest.mark.parametrize(
    ("p_value", "shown"),
    [(1.0, "1.00"), (0.214, "0.21"), (0.0499, "0.05"), (0.00123, "0.0012"), (9e-5, "<0.0001")],
)
def test_small_p_values_keep_their_digits(p_value: float, shown: str) -> None:
    difference = DIFFERENCE | {"p_value_holm": p_value}
    models = [MODEL, MODEL | {"difference": difference}]
    ranking, _, _ = tables_of(made(models=models))
    assert ranking.rows[1][3] == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.23, "0.2 s"), (9.9, "9.9 s"), (61, "61 s"), (150, "2.5 min"), (3600, "60 min"),
     (8640, "2.4 h"), (720000, "200 h")],
)  # fmt: skip
def test_a_duration_has_the_unit_that_fits(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_the_legend_explains_marks_and_corrections() -> None:
    legend = legend_of(made())
    assert legend[0] == f"† {TWO_PHASE_NOTE}"
    assert "DeLong's test of no difference, one test." in legend[1]
    assert any("0.8144" in line for line in legend)
    three = made(models=[*COMPARISON["models"], COMPARISON["models"][1]])
    assert "corrected for 2 comparisons by Holm's method" in legend_of(three)[1]


def test_the_legend_says_that_a_teachers_training_is_not_counted(make_scored: Make) -> None:
    said = "; for distilled without its teacher's training; rows/s"
    for path, counts in (("distilled", 1), ("single_phase", 0)):
        legend = "\n".join(legend_of(compare_models(make_scored("deepfm", path), "deepfm")))
        assert legend.count(said) == counts


def test_what_is_not_there_is_not_explained() -> None:
    plain = made(models=[MODEL, MODEL], best_possible_auc=None)
    text = "\n".join(legend_of(plain))
    assert "†" not in text
    assert "best" not in text
    ranking, _, _ = tables_of(plain)
    assert "of best" not in ranking.columns


def test_markdown_has_a_row_a_model_and_every_table_is_whole(make_scored: Make) -> None:
    models = make_scored("deepfm", "single_phase", "two_phase")
    missing = {"two_phase_finetuned": "kedro run --pipeline=train_two_phase_finetuned"}
    text = markdown_of(compare_models(models, "deepfm", missing))
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for lines in tables:
        assert len(lines) == 2 + 3
        assert len({line.count("|") for line in lines}) == 1
        assert [line.split("|")[1].strip() for line in lines[2:]] == [
            *("deepfm", "single_phase", "two_phase †"),
        ]
    assert TWO_PHASE_NOTE in text
    assert "two_phase_finetuned yet: `kedro run --pipeline=train_two_phase_finetuned`" in text
    assert "yet:" not in markdown_of(compare_models(models, "deepfm"))


SEVERAL = {"seeds": [42, 43, 44], "auc_seed_std": 0.00123, "logloss_seed_std": 0.00061}


def test_means_over_seeds_stand_with_their_spread() -> None:
    found = DIFFERENCE | {"degrees_of_freedom": 4.2}
    several = MODEL | SEVERAL | {"name": "single_phase", "difference": found}
    comparison = made(models=[MODEL, several])
    ranking, probabilities, cost = tables_of(comparison)
    assert ranking.rows[1][1] == "0.7575 ± 0.0012 [0.7489, 0.7660]"
    assert ranking.rows[0][1] == "0.7575 [0.7489, 0.7660]"
    assert probabilities.rows[1][1] == "0.4020 ± 0.0006"
    assert [row[cost.columns.index("seeds")] for row in cost.rows] == ["1", "3"]
    text = markdown_of(comparison)
    assert "each number is of one training" not in text
    assert "DeLong's test" not in text
    assert "that of a difference, and p, also what other seeds would" in text
    assert "Of deepfm there is one training alone" in text
    assert "one training" not in markdown_of(made(models=[MODEL | SEVERAL, several]))


def test_where_all_numbers_are_of_one_training_it_is_said() -> None:
    text = markdown_of(made())
    assert "each number is of one training" in text
    assert "±" not in text
    assert "seeds" not in tables_of(made())[2].columns


def test_a_gauc_has_a_column_where_all_tests_have_one() -> None:
    models = [MODEL | {"gauc": 0.65432}, MODEL]
    comparison = made(group_by="site_id", models=models)
    _, probabilities, _ = tables_of(comparison)
    assert [row[-1] for row in probabilities.rows] == ["0.6543", "–"]
    assert any("AUC within each value of site_id" in line for line in legend_of(comparison))
    assert "gAUC" not in markdown_of(made(models=models))

"""Drawn rows: what hangs together, and how hard their clicks are to rank."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from llm_ctr_pipeline.data.synthetic.generated_rows import Column, _pair_effect, draw_rows


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_click_rate_and_difficulty(seed: int) -> None:
    drawn = draw_rows(40_000, seed, click_rate=0.17)
    assert drawn.probabilities.mean() == pytest.approx(0.17, abs=1e-6)
    assert drawn.clicks.mean() == pytest.approx(0.17, abs=0.01)
    assert 0.77 < roc_auc_score(drawn.clicks, drawn.probabilities) < 0.83


def test_the_seed_fixes_all_that_is_drawn() -> None:
    first, again, other = (draw_rows(500, seed, click_rate=0.3) for seed in (1, 1, 2))
    assert np.array_equal(first.ids, again.ids)
    assert np.array_equal(first.clicks, again.clicks)
    assert np.array_equal(first.probabilities, again.probabilities)
    for name, column in first.columns.items():
        assert np.array_equal(column.index, again.columns[name].index)
        assert np.array_equal(column.values, again.columns[name].values)
    assert not np.array_equal(first.clicks, other.clicks)


# By field, what it decides.
DECIDED = {
    "site_id": ("site_domain", "site_category"),
    "app_id": ("app_domain", "app_category"),
    "C14": ("C15", "C16", "C17"),
    "C17": ("C18", "C19", "C21"),
}


def test_publishers_ads_and_campaigns_decide_what_hangs_on_them() -> None:
    columns = draw_rows(5000, seed=1, click_rate=0.2).columns
    values = {name: column.values[column.index] for name, column in columns.items()}
    for field, decided in DECIDED.items():
        for name in decided:
            pairs = set(zip(values[field], values[name], strict=True))
            assert len(pairs) == len(set(values[field])), (field, name)
            assert 1 < len(set(values[name])) <= len(set(values[field])), (field, name)


def test_a_columns_values_differ_and_each_row_has_one() -> None:
    drawn = draw_rows(3000, seed=4, click_rate=0.2)
    assert len(np.unique(drawn.ids)) == 3000
    for name, column in drawn.columns.items():
        # Two sizes of ads have the same width.
        differ = len(column.values) - (name == "C15")
        assert len(np.unique(column.values)) == differ, name
        assert len(column.index) == 3000
        assert 0 <= column.index.min() <= column.index.max() < len(column.values)


def test_an_effect_of_a_pair_says_nothing_of_either_field() -> None:
    rng = np.random.default_rng(0)
    first, second = (
        Column(np.arange(size).astype(str), rng.integers(size, size=4000)) for size in (4, 6)
    )
    effect = _pair_effect(rng, first, second)
    assert effect.mean() == pytest.approx(0, abs=1e-9)
    assert effect.std() == pytest.approx(1)
    for column in (first, second):
        sums = np.bincount(column.index, weights=effect)
        np.testing.assert_allclose(sums / np.bincount(column.index), 0, atol=1e-9)

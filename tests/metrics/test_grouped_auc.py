import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from llm_ctr_pipeline.metrics.checks import InvalidPredictionsError
from llm_ctr_pipeline.metrics.grouped_auc import GroupedAuc, grouped_auc


@pytest.mark.parametrize("decimals", [1, 16])
def test_it_is_the_mean_of_the_groups_aucs_weighted_by_their_rows(decimals: int) -> None:
    rng = np.random.default_rng(0)
    groups = rng.zipf(1.5, 3000).clip(0, 400) - 1
    labels = rng.random(3000) < 0.3
    scores = (0.3 * rng.random(3000) + 0.2 * labels + 0.1 * rng.random(400)[groups]).round(decimals)
    aucs, weights = [], []
    for group in range(1, 400):
        of_group = groups == group
        if 0 < labels[of_group].sum() < of_group.sum():
            aucs.append(roc_auc_score(labels[of_group], scores[of_group]))
            weights.append(of_group.sum())
    assert 20 < len(aucs) < 300  # some have one class
    found = grouped_auc(labels, scores, groups)
    assert found.value == pytest.approx(np.average(aucs, weights=weights), abs=1e-12)
    assert found.rows == sum(weights)
    assert found.value != pytest.approx(roc_auc_score(labels, scores), abs=1e-3)


def test_a_case_by_hand() -> None:
    """Group 1: of two pairs one tied, 0.75; group 2: one pair, wrong; group 3 has no click."""
    labels = [1, 0, 0, 1, 0, 0, 1]
    scores = [0.5, 0.5, 0.2, 0.1, 0.3, 0.9, 0.4]
    assert grouped_auc(labels, scores, [1, 1, 1, 2, 2, 3, 0]) == GroupedAuc(3 * 0.75 / 5, 5)


def test_one_group_of_all_rows_has_their_auc() -> None:
    rng = np.random.default_rng(1)
    labels, scores = rng.random(500) < 0.2, rng.random(500).round(2)
    found = grouped_auc(labels, scores, np.full(500, 7, np.int32))
    assert (found.value, found.rows) == (pytest.approx(roc_auc_score(labels, scores)), 500)


@pytest.mark.parametrize("groups", [[0, 0, 0], [1, 2, 3], [1, 2, 1]])
def test_without_a_group_of_both_classes_there_is_none(groups: list[int]) -> None:
    assert grouped_auc([1, 0, 1], [0.1, 0.2, 0.3], groups) == GroupedAuc(None, 0)


def test_predictions_are_checked() -> None:
    with pytest.raises(InvalidPredictionsError, match="x4 test: 2 labels but 1 prob"):
        grouped_auc([0, 1], [0.1], [1, 1], "x4 test")

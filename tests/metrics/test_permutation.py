"""What the AUC loses when a field is shuffled."""

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import roc_auc_score

from llm_ctr_pipeline.metrics.checks import SingleClassError
from llm_ctr_pipeline.metrics.permutation import permutation_importance

ROWS = 2000
RNG = np.random.default_rng(0)
IDS_NF = RNG.integers(0, 8, (ROWS, 4))
IDS_NF[:, 3] = 5
EFFECTS_8 = RNG.normal(size=8)
STRENGTHS_F = np.array([1.5, 0.5, 0.0, 1.0])


def predict(ids_NF: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    return 1 / (1 + np.exp(-(EFFECTS_8[ids_NF] * STRENGTHS_F).sum(axis=1)))


LABELS_N = RNG.random(ROWS) < predict(IDS_NF)


def test_fields_matter_as_much_as_the_model_uses_them() -> None:
    before = IDS_NF.copy()
    strong, weak, unused, constant = permutation_importance(predict, LABELS_N, IDS_NF)
    assert (before == IDS_NF).all()
    assert strong.value > weak.high > weak.value > weak.low > 0
    assert (unused.value, unused.low, unused.high) == (0, 0, 0)
    assert (constant.value, constant.low, constant.high) == (0, 0, 0)


def test_the_loss_is_the_auc_less_the_mean_auc_of_shuffled_rows() -> None:
    seen: list[npt.NDArray[np.integer]] = []

    def watched(ids_NF: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        seen.append(ids_NF.copy())
        return predict(ids_NF)

    losses = permutation_importance(watched, LABELS_N, IDS_NF, repeats=2)
    whole, *shuffled = [float(roc_auc_score(LABELS_N, predict(ids_NF))) for ids_NF in seen]
    expected = [whole - (shuffled[at] + shuffled[at + 1]) / 2 for at in range(0, 8, 2)]
    np.testing.assert_allclose([loss.value for loss in losses], expected, atol=1e-12)
    for place, ids_NF in enumerate(seen[1:]):
        changed = (ids_NF != IDS_NF).any(axis=0)
        assert changed.tolist() == [field == place // 2 != 3 for field in range(4)]
        assert (np.sort(ids_NF, axis=0) == np.sort(IDS_NF, axis=0)).all()
    assert not (seen[1] == seen[2]).all()


def test_a_seed_names_the_shuffles() -> None:
    first, again, other = (
        permutation_importance(predict, LABELS_N, IDS_NF, repeats=1, seed=seed)[0].value
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_rows_of_one_class_are_refused() -> None:
    with pytest.raises(SingleClassError, match="x4 test"):
        permutation_importance(predict, np.zeros(ROWS), IDS_NF, split="x4 test")

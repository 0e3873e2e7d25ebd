import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm
from sklearn.metrics import log_loss

from llm_ctr_pipeline.metrics.comparison import (
    differences_to_first,
    holm,
    logloss_difference,
    measure_model,
    row_losses,
)
from llm_ctr_pipeline.metrics.delong import difference_of, place_rows

FloatArray = npt.NDArray[np.float64]


def _models(
    rng: np.random.Generator, rows: int, shifts: tuple[float, ...] = (1.0, 0.7)
) -> tuple[npt.NDArray[np.bool_], list[FloatArray]]:
    """Draw correlated models of one log: normal scores, a click's shifted up."""
    labels = rng.random(rows) < 0.3
    shared = rng.normal(size=rows)
    return labels, [
        norm.cdf(0.8 * shared + 0.6 * rng.normal(size=rows) + shift * labels) for shift in shifts
    ]


def test_models_are_compared_with_the_first_and_p_values_corrected() -> None:
    labels, (first, *others) = _models(np.random.default_rng(11), 800, (0.8, 1.0, 0.7))
    placed = [place_rows(labels, scores) for scores in (first, *others)]
    models = [
        measure_model(labels, [scores], [ranking])
        for scores, ranking in zip((first, *others), placed, strict=True)
    ]
    differences = differences_to_first(models, ["a", "b", "c"])
    expected = [difference_of(other, placed[0]) for other in placed[1:]]
    corrected = holm([auc.p_value for auc in expected])
    assert [one.auc for one in differences] == [auc.value for auc in expected]
    assert [one.p_value for one in differences] == [auc.p_value for auc in expected]
    assert [one.p_value_holm for one in differences] == corrected
    assert {one.degrees_of_freedom for one in differences} == {None}
    assert differences[0].auc > 0 > differences[1].auc
    for one, scores in zip(differences, others, strict=True):
        assert one.auc_low < one.auc < one.auc_high
        assert one.z == pytest.approx(2 * one.auc / (one.auc_high - one.auc_low) * 1.959964)
        assert one.logloss == pytest.approx(log_loss(labels, scores) - log_loss(labels, first))
        assert one.logloss_low < one.logloss < one.logloss_high


def test_errors() -> None:
    scores = [0.1, 0.2, 0.3]
    models = [measure_model([0, 1, 0], [scores], [place_rows([0, 1, 0], scores)])] * 2
    with pytest.raises(ValueError, match="deepfm: 1 clicks and 2 non-clicks"):
        differences_to_first(models, ["single", "deepfm"])


def test_the_log_losss_difference_equals_scikit_learns_and_the_bootstrap() -> None:
    rng = np.random.default_rng(10)
    labels, (a, b) = _models(rng, 1500)
    found = logloss_difference(row_losses(labels, a), row_losses(labels, b))
    assert found.value == pytest.approx(log_loss(labels, a) - log_loss(labels, b), abs=1e-12)
    differences = []
    for _ in range(400):
        rows = rng.integers(labels.size, size=labels.size)
        differences.append(log_loss(labels[rows], a[rows]) - log_loss(labels[rows], b[rows]))
    # 400 replicates know a standard deviation to 3.5%
    assert found.standard_error == pytest.approx(np.std(differences, ddof=1), rel=0.12)
    assert found.low == pytest.approx(found.value - 1.959964 * found.standard_error)
    assert found.high == pytest.approx(found.value + 1.959964 * found.standard_error)


def test_a_log_loss_of_sure_errors_is_finite() -> None:
    sure = row_losses([1, 0], [0.0, 0.5])
    found = logloss_difference(sure, row_losses([1, 0], [0.5, 0.5]))
    expected = log_loss([1, 0], [0.0, 0.5]) - np.log(2)
    assert found.value == pytest.approx(expected)
    same = logloss_difference(sure, sure)
    assert (same.value, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        # worked by hand: .005·4, .01·3, .03·2, and .04·1 raised to the one before
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        # statsmodels 0.15.0, multipletests(p, method="holm")
        (
            [0.001, 0.012, 0.03, 0.03, 0.2, 0.6, 0.0004],
            [0.006, 0.06, 0.12, 0.12, 0.4, 0.6, 0.0028],
        ),
        ([0.7, 0.8], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holms_correction(p_values: list[float], corrected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(corrected)


def test_several_equal_models_are_told_apart_as_seldom_as_one() -> None:
    rng = np.random.default_rng(12)
    families = []
    for _ in range(400):
        labels = rng.random(200) < 0.3
        baseline, *others = (
            place_rows(labels, norm.cdf(scores)) for scores in rng.normal(size=(4, 200)) + labels
        )
        p_values = [difference_of(other, baseline).p_value for other in others]
        families.append((min(p_values) < 0.05, min(holm(p_values)) < 0.05))
    uncorrected, corrected = np.mean(families, axis=0)
    # 400 families at 5%: the standard error is 1.1%
    assert uncorrected > 0.08
    assert corrected < 0.08

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from llm_ctr_pipeline.metrics.slices import FEWEST_OF_A_CLASS, VALUES, Slices, measure_slices, named


def drawn(rows: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and the ids of three fields: many values, one value, hours."""
    rng = np.random.default_rng(5)
    probabilities = rng.random(rows)
    labels = (rng.random(rows) < probabilities).astype(np.int8)
    many = rng.geometric(0.3, rows)  # the smaller an id, the more rows it has
    return labels, probabilities, np.stack([many, np.ones(rows, int), rng.integers(0, 24, rows)], 1)


def test_each_slice_is_measured_on_its_own_rows() -> None:
    labels, probabilities, ids = drawn()
    slices = measure_slices(labels, probabilities, ids, ["many", "one", "hour"], "hour")
    for one in slices:
        own = ids[:, {"many": 0, "hour": 2}[one.field]] == one.id
        assert (one.rows, one.clicks) == (own.sum(), labels[own].sum())
        assert one.auc == pytest.approx(roc_auc_score(labels[own], probabilities[own]))
        assert one.auc_low < one.auc < one.auc_high


def test_the_most_frequent_values_count_and_all_hours() -> None:
    labels, probabilities, ids = drawn()
    slices = measure_slices(labels, probabilities, ids, ["many", "one", "hour"], "hour")
    by_field = Slices(hour="hour", slices=tuple(slices))
    assert [one.id for one in by_field.of("many")] == [*range(1, VALUES + 1)]
    assert by_field.of("one") == []  # one value says nothing of values
    assert {one.id for one in by_field.of("hour")} == {*range(24)}


def test_values_of_few_clicks_are_left_out() -> None:
    labels, probabilities, ids = drawn()
    rare = np.where(ids[:, 0] == 2, 2, 1)
    labels[np.flatnonzero(rare == 2)[FEWEST_OF_A_CLASS - 1 :]] = 0
    columns = rare[:, None]
    assert measure_slices(labels, probabilities, columns, ["rare"]) == []


def test_values_are_named_and_unknown_ones_are_not() -> None:
    labels, probabilities, ids = drawn()
    slices = measure_slices(labels, probabilities, ids[:, 2:], ["hour"])
    one, *_ = named(slices, {("hour", slices[0].id): "a"})
    assert one.value == "a"
    assert {each.value for each in named(slices, {})} == {None}

"""AUC of the rows that share a field's value: where a model ranks well, and where it does not.

Shapes: N rows of a split, F fields.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.metrics.checks import checked_predictions
from llm_ctr_pipeline.metrics.delong import interval_of, place_rows

VALUES = 6  # of a field, those with the most rows
FEWEST_OF_A_CLASS = 20  # clicks and non-clicks: fewer say nothing of an AUC
UNKNOWN = 0  # the id of all values that have none of their own


class Slice(Frozen):
    """The rows with one value of a field.

    Attributes:
        field: The field.
        id: The value's id; 0 for all values without one of their own.
        value: The value as the raw log has it; None for id 0.
        rows: How many rows have it.
        clicks: How many of them are clicks.
        auc: Area under the ROC curve of these rows; `auc_low` and `auc_high` are the ends of its
            95% interval (DeLong, see `interval_of`).
    """

    field: str
    id: int
    value: str | None
    rows: int
    clicks: int
    auc: float
    auc_low: float
    auc_high: float


class Slices(Frozen):
    """A test's rows by the values of their fields: `slices_DATASET_SPLIT.json`.

    Attributes:
        hour: The field that is the hour of the day; None where there is none.
        slices: Field by field, the values with the most rows first.
    """

    hour: str | None
    slices: tuple[Slice, ...]

    def of(self, field: str | None) -> list[Slice]:
        """The slices of one field."""
        return [one for one in self.slices if one.field == field]


def measure_slices(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    ids_NF: npt.NDArray[np.integer],
    names: Sequence[str],
    hour: str | None = None,
    split: str = "the split",
) -> list[Slice]:
    """Compute the AUC of each field's most frequent values, and of all hours.

    Values of fewer than `FEWEST_OF_A_CLASS` rows of a class are left out, and so are fields of
    which less than two values are left.

    Args:
        labels: [N], 0 or 1.
        probabilities: [N], predicted click probabilities.
        ids_NF: [N, F], ids within each field.
        names: The fields' names, F of them.
        hour: The field of which all values count.
        split: What error messages call these rows.

    Returns:
        The slices, their values not named yet; see `named`.

    Raises:
        InvalidPredictionsError: See `checked_predictions`.
    """
    labels_N, probabilities_N = checked_predictions(labels, probabilities, split)
    slices: list[Slice] = []
    for name, ids_N in zip(names, np.asarray(ids_NF).T, strict=True):
        rows = np.bincount(ids_N)
        clicks = np.bincount(ids_N, weights=labels_N).astype(np.int64)
        enough = np.flatnonzero(np.minimum(clicks, rows - clicks) >= FEWEST_OF_A_CLASS)
        ordered = enough[np.argsort(-rows[enough], kind="stable")]
        chosen = ordered if name == hour else ordered[:VALUES]
        if len(chosen) > 1:
            of_field = (ids_N == one for one in chosen)
            intervals = [
                interval_of(place_rows(labels_N[own_N], probabilities_N[own_N], split=split))
                for own_N in of_field
            ]
            slices += [
                Slice(
                    **{"field": name, "id": int(one), "value": None},
                    **{"rows": int(rows[one]), "clicks": int(clicks[one])},
                    **{"auc": auc.value, "auc_low": auc.low, "auc_high": auc.high},
                )
                for one, auc in zip(chosen, intervals, strict=True)
            ]
    return slices


def named(slices: Sequence[Slice], values: Mapping[tuple[str, int], str]) -> tuple[Slice, ...]:
    """Name the slices' values, of which id 0 has none."""
    return tuple(
        one.model_copy(update={"value": values.get((one.field, one.id))}) for one in slices
    )

"""AUC within groups of rows, such as those of a user: the order that a ranking shows to somebody.

Shapes: N rows of a split, of which K lie in a group; G groups with rows of both classes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_ctr_pipeline.metrics.checks import checked_predictions


@dataclass(frozen=True)
class GroupedAuc:
    """The mean AUC of groups.

    Attributes:
        value: Weighted by the groups' rows; None where no group has rows of both classes.
        rows: Rows of the groups that it is the mean of.
    """

    value: float | None
    rows: int


def grouped_auc(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    groups: npt.ArrayLike,
    split: str = "the split",
) -> GroupedAuc:
    """Compute gAUC, the AUC of each group weighted by its impressions, that is, its rows.

    Zhou et al. 2018, "Deep Interest Network for Click-Through Rate Prediction" (arXiv 1706.06978),
    the weighted AUC in its section on metrics. A group of one class has no AUC and is left out.

    Args:
        labels: [N], 0 or 1.
        probabilities: [N], predicted click probabilities.
        groups: [N], whole numbers, each row's group; rows with 0 are left out, for id 0 is
            "unknown" and stands for many values.
        split: What error messages call these rows.

    Raises:
        InvalidPredictionsError: See `checked_predictions`.
    """
    labels_N, probabilities_N = checked_predictions(labels, probabilities, split)
    groups_N = np.asarray(groups)
    order_K = np.lexsort((probabilities_N, groups_N))
    order_K = order_K[groups_N[order_K] != 0]
    if not order_K.size:
        return GroupedAuc(None, 0)
    group_K, click_K = groups_N[order_K], labels_N[order_K]
    is_first_K = _changes(group_K)
    first_G = np.flatnonzero(is_first_K)
    # Midranks over all groups together: within a group they are these less the rows before it.
    tie_K = np.cumsum(is_first_K | _changes(probabilities_N[order_K])) - 1
    ties = np.bincount(tie_K)
    midrank = np.cumsum(ties) - (ties - 1) / 2
    rank_K = midrank[tie_K] - first_G[np.cumsum(is_first_K) - 1]
    rows_G = np.diff(np.append(first_G, order_K.size))
    clicks_G = np.add.reduceat(click_K, first_G, dtype=np.int64)
    ranks_G = np.add.reduceat(np.where(click_K, rank_K, 0.0), first_G)
    # The Mann-Whitney statistic: pairs of a click and a non-click in the right order.
    pairs_G = clicks_G * (rows_G - clicks_G)
    right_G = ranks_G - clicks_G * (clicks_G + 1) / 2
    both_G = pairs_G > 0
    rows = int(rows_G[both_G].sum())
    if rows == 0:
        return GroupedAuc(None, 0)
    auc_G = right_G[both_G] / pairs_G[both_G]
    return GroupedAuc(float(np.average(auc_G, weights=rows_G[both_G])), rows)


def _changes(sorted_K: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Where a sorted array's value is another than the one before; the first is."""
    return np.append(True, sorted_K[1:] != sorted_K[:-1])

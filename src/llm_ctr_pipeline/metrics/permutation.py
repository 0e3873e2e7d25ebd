"""How much a model's ranking needs each field: its AUC with that field's ids shuffled.

Breiman 2001 ("Random forests", section 10), of any model, on rows that it was not trained on.

Shapes: N rows of a split, F fields.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from llm_ctr_pipeline.metrics.delong import Estimate, Placements, difference_of, place_rows


def permutation_importance(
    predict: Callable[[npt.NDArray[np.integer]], npt.ArrayLike],
    labels: npt.ArrayLike,
    ids_NF: npt.NDArray[np.integer],
    *,
    repeats: int = 3,
    seed: int = 0,
    split: str = "the split",
) -> list[Estimate]:
    """Compute what the AUC loses when one field's ids are shuffled among the rows.

    A field that another one repeats seems to matter little: the model still has the other. The
    intervals are those of the rows (DeLong's paired test), over the mean of the shuffles.

    Args:
        predict: Takes ids, int `[N, F]`, and gives probabilities, `[N]`, of rows by themselves.
        labels: [N], 0 or 1, both present.
        ids_NF: Ids within each field, [N, F]; they stay as they are.
        repeats: Shuffles of each field.
        seed: Of the shuffles.
        split: What error messages call these rows.

    Returns:
        For each field the AUC less the mean AUC of the shuffles.

    Raises:
        InvalidPredictionsError: See `checked_predictions`.
        SingleClassError: Every row has the same label.
        TooFewRowsError: See `difference_of`.
    """
    rng = np.random.default_rng(seed)
    whole = place_rows(labels, predict(ids_NF), split=split)
    losses = []
    for field in range(ids_NF.shape[1]):
        shuffled = []
        for _ in range(repeats):
            other_NF = ids_NF.copy()
            other_NF[:, field] = rng.permutation(ids_NF[:, field])
            shuffled.append(place_rows(labels, predict(other_NF), split=split))
        losses.append(difference_of(whole, Placements.averaged(shuffled), split=split))
    return losses

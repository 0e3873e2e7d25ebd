"""The metrics of a whole split, as the tables of click-through-rate papers report them.

Shapes: N rows of a split.
"""

import numpy.typing as npt

from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.metrics.calibration import expected_calibration_error
from llm_ctr_pipeline.metrics.checks import checked_predictions
from llm_ctr_pipeline.metrics.delong import interval_of, place_rows

THRESHOLD = 0.5


class ClassificationMetrics(Frozen):
    """What a model's predictions of one split are worth.

    Attributes:
        auc: Area under the ROC curve.
        auc_low: Lower end of its 95% interval (DeLong, see `interval_of`).
        auc_high: Upper end of its 95% interval.
        logloss: Mean negative log-likelihood, in nats a row.
        accuracy: Percent of rows on the right side of 0.5; with a click rate of 0.17, 83 is what
            a model that never predicts a click gets.
        expected_calibration_error: Over 15 bins of equal mass, a probability.
        calibration_ratio: Predicted over observed number of clicks: 1 is right, 1.1 is 10% too
            many (the normalised prediction average of He et al. 2014, "Practical lessons from
            predicting clicks on ads at Facebook").
        click_rate: Share of rows that are clicks.
        rows: How many rows the split has.
    """

    auc: float
    auc_low: float
    auc_high: float
    logloss: float
    accuracy: float
    expected_calibration_error: float
    calibration_ratio: float
    click_rate: float
    rows: int


def classification_metrics(
    labels_N: npt.ArrayLike, probabilities_N: npt.ArrayLike, split: str = "the split"
) -> ClassificationMetrics:
    """Compute every metric over all rows of a split at once.

    An AUC averaged over batches is not the split's AUC: rows of different batches are never
    ranked against each other. So pass the whole split.

    Args:
        labels_N: [N], 0 or 1, both present.
        probabilities_N: [N], predicted click probabilities. Exact 0 and 1 are clipped by the
            float64 epsilon in the log loss, where they would cost infinitely much. Exactly 0.5
            counts as "no click", as an argmax over two equal answer logits has it.
        split: What error messages call these rows, for example `x4 test`.

    Raises:
        SingleClassError: Every row has the same label.
        InvalidPredictionsError: See `checked_predictions`.
    """
    from sklearn.metrics import accuracy_score, log_loss, roc_auc_score  # a second to import

    labels_N, probabilities_N = checked_predictions(labels_N, probabilities_N, split)
    interval = interval_of(place_rows(labels_N, probabilities_N, split=split))
    return ClassificationMetrics(
        auc=float(roc_auc_score(labels_N, probabilities_N)),
        auc_low=interval.low,
        auc_high=interval.high,
        logloss=float(log_loss(labels_N, probabilities_N)),
        accuracy=100 * float(accuracy_score(labels_N, probabilities_N > THRESHOLD)),
        expected_calibration_error=expected_calibration_error(
            labels_N, probabilities_N, split=split
        ),
        calibration_ratio=float(probabilities_N.sum() / labels_N.sum()),
        click_rate=float(labels_N.mean()),
        rows=labels_N.size,
    )

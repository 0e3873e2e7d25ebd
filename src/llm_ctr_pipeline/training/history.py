"""What training reports: one record a validation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ValidationRecord:
    """One validation and the training since the one before.

    Attributes:
        epoch: Epochs completed, a fraction within an epoch.
        step: Optimiser steps completed.
        train_loss: Mean cross-entropy of the rows trained on, in nats a row, as they were met.
        train_accuracy: Percent of those rows on the right side of 0.5.
        valid_loss: Mean cross-entropy over the validation split.
        valid_accuracy: Percent.
        valid_auc: Area under the ROC curve over the whole validation split.
        valid_logloss: Log loss of the predicted probabilities.
        seconds: Training time, validation not included.
        rows_per_second: Rows trained on a second.
        improved: Whether the validation AUC is the best so far.
    """

    epoch: float
    step: int
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    valid_auc: float
    valid_logloss: float
    seconds: float
    rows_per_second: float
    improved: bool

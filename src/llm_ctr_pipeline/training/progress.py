"""The progress bar of training."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from llm_ctr_pipeline.progress import progress_bar
from llm_ctr_pipeline.training.history import ValidationRecord


class TrainingProgress:
    """One bar, filled once an epoch, with the last validation AUC beside it."""

    def __init__(self, progress: Progress, steps_an_epoch: int, epochs: int) -> None:
        self._progress = progress
        self._steps = steps_an_epoch
        self._epochs = epochs
        self._task = progress.add_task("training", total=steps_an_epoch, auc="")

    def start_epoch(self, epoch: int, done: int) -> None:
        """Empty the bar for an epoch, counted from 0, of which some steps may be done."""
        label = f"epoch {epoch + 1} of at most {self._epochs}"
        self._progress.reset(self._task, total=self._steps, completed=done, description=label)

    def advance(self) -> None:
        """Count one step."""
        self._progress.advance(self._task)

    def report(self, record: ValidationRecord) -> None:
        """Show a validation's AUC."""
        self._progress.update(self._task, auc=f"validation AUC {record.valid_auc:.4f}")


@contextmanager
def training_progress(steps_an_epoch: int, epochs: int) -> Iterator[TrainingProgress]:
    """Draw the bar of steps."""
    auc = TextColumn("{task.fields[auc]}")
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn(), auc) as progress:
        yield TrainingProgress(progress, steps_an_epoch, epochs)

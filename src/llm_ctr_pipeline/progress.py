"""How far something is: a bar on a terminal, and elsewhere a line now and then."""

import logging
import time
from typing import Any, Self

from rich import get_console
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

logger = logging.getLogger(__name__)

# Without a terminal a line comes as often.
SECONDS_BETWEEN_LINES = 30
# To find the loss the host waits for the device.
SECONDS_BETWEEN_LOSSES = 1


class ProgressLines(Progress):
    """Says in a line every so many seconds what its columns show, and draws no bar."""

    def __init__(self, *columns: ProgressColumn, console: Console) -> None:
        super().__init__(*columns, console=console, disable=True)
        self._shown = columns
        self._said_at = time.monotonic()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Count on, and say so when a line's turn came."""
        super().advance(task_id, advance)
        self._say(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change what is shown, and say so when a line's turn came."""
        super().update(task_id, **changes)
        self._say(task_id)

    def _say(self, task_id: TaskID) -> None:
        if time.monotonic() - self._said_at < SECONDS_BETWEEN_LINES:
            return
        self._said_at = time.monotonic()
        task = self._tasks[task_id]
        shown = (str(column(task)).strip() for column in self._shown)
        logger.info("  ".join(filter(None, shown)))


def progress_bar(*columns: ProgressColumn | str) -> Progress:
    """Give a bar to be drawn within a `with`: its description, and these columns behind it."""
    # The console that Rich's log handler prints to, so that log lines appear above the bar.
    console = get_console()
    description = TextColumn("{task.description}")
    shown = [TextColumn(one) if isinstance(one, str) else one for one in columns]
    if console.is_terminal:
        return Progress(description, BarColumn(bar_width=None), *shown, console=console)
    return ProgressLines(description, *shown, console=console)


def bytes_bar() -> Progress:
    """Give a bar that counts bytes and the time they still take."""
    return progress_bar(DownloadColumn(), TimeRemainingColumn())


class TrainingBar:
    """Drawn within a `with`: steps of an epoch, the running loss, rows a second."""

    def __init__(self) -> None:
        whole = Column(no_wrap=True)  # what is narrow on a narrow terminal is the bar
        steps = MofNCompleteColumn(table_column=whole)
        remaining = TimeRemainingColumn(compact=True, table_column=whole)
        self._bar = progress_bar(steps, remaining, "{task.fields[loss]}")
        self._task = self._bar.add_task("training", total=None, loss="")
        self._found_at = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_of: object) -> None:
        self._bar.stop()

    @property
    def loss_due(self) -> bool:
        """Whether the loss that is shown is old."""
        return time.monotonic() - self._found_at >= SECONDS_BETWEEN_LOSSES

    def begin(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Begin an epoch, the first of which is 0: of its steps so many are done."""
        label = f"epoch {epoch + 1}/{epochs}"
        self._bar.reset(self._task, total=steps, completed=done, description=label)

    def advance(self) -> None:
        """Count a step."""
        self._bar.advance(self._task)

    def show_loss(self, loss: float, rows_per_second: float) -> None:
        """Show the mean loss since the last validation, and how fast it goes."""
        self._found_at = time.monotonic()
        self._bar.update(self._task, loss=f"loss {loss:.4f}  {rows_per_second:,.0f} rows/s")

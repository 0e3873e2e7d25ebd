"""Progress bars: drawn on a terminal; in a log file there are none."""

from rich import get_console
from rich.progress import DownloadColumn, Progress, ProgressColumn, TimeRemainingColumn


def progress_bar(*columns: ProgressColumn) -> Progress:
    """Give a bar to be drawn within a `with`: its description, and these columns behind it."""
    # The console that Rich's log handler prints to, so that log lines appear above the bar.
    console = get_console()
    described = Progress.get_default_columns()[:2]
    return Progress(*described, *columns, console=console, disable=not console.is_terminal)


def bytes_bar() -> Progress:
    """Give a bar that counts bytes and the time they still take."""
    return progress_bar(DownloadColumn(), TimeRemainingColumn())

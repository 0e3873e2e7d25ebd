"""Stopping between two steps when the process is asked to end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopRequest:
    """Whether Ctrl-C (SIGINT) or SIGTERM arrived, and which.

    Attributes:
        signal: The signal's number; None while none arrived.
    """

    signal: int | None = None

    def raise_if_arrived(self) -> None:
        """End as the signal would have ended the process.

        Raises:
            KeyboardInterrupt: SIGINT arrived.
            SystemExit: SIGTERM arrived; the exit code is 143, as a shell reports it.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)


@contextmanager
def deferred_stop() -> Iterator[StopRequest]:
    """Note SIGINT and SIGTERM instead of being interrupted by them.

    A step of the optimiser cut in the middle would leave weights that no training state can
    describe. A second signal acts at once. Off the main thread, where Python allows no handlers,
    nothing is deferred.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _frame: FrameType | None) -> None:
        request.signal = number
        for deferred, handler in before.items():
            signal.signal(deferred, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

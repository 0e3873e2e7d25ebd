"""Addresses without their credentials, wherever text leaves the process.

An address may hold a password, a key or a signature. Logs, tracebacks, messages and what MLflow is
told are read by others.
"""

import logging
import re
import sys
import traceback
from types import TracebackType
from typing import Any

_HIDDEN = "***"
# `user:password@`, in which a password may hold slashes. A name alone is a token only on the web:
# elsewhere it is a user (hdfs://) or a container (abfss://).
_USER = re.compile(r"(?<=://)[^\s/?#@:'\"]*:[^\s?#'\"<>]*@|(?<=http://|ttps://)[^\s/?#@:'\"]+@")
_SECRET = re.compile(
    r"""((?:[?&;]|\b(?=password=))[^\s=&?;'"]*
    (?:sig|token|secret|passw|pwd|credential|key|auth|x-amz-|x-goog-)[^\s=&?;'"]*=)[^\s&;'"]+""",
    re.IGNORECASE | re.VERBOSE,
)


def redacted(text: str) -> str:
    """The same text without user and password, keys, tokens and signatures in addresses."""
    return _SECRET.sub(rf"\g<1>{_HIDDEN}", _USER.sub(f"{_HIDDEN}@", text))


class RedactedRecord(logging.LogRecord):
    """A log record that names no credentials, whichever logger and handler it passes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info and self.exc_info[1] is not None:
            self.exc_text = _told(self.exc_info[1])  # formatters take it instead of their own

    def getMessage(self) -> str:  # noqa: N802 - logging's name
        """The message with its arguments."""
        return redacted(super().getMessage())


def redact_all() -> None:
    """Redact what this process logs from now on, and the traceback that it ends with."""
    logging.setLogRecordFactory(RedactedRecord)
    sys.excepthook = _show


def _show(_kind: type[BaseException], error: BaseException, _at: TracebackType | None) -> None:
    sys.stderr.write(f"{_told(error)}\n")


def _told(error: BaseException) -> str:
    return redacted("".join(traceback.format_exception(error)).rstrip())

"""What is raised when the input, the settings or the machine are at fault rather than the code."""


class RefusedError(Exception):
    """What cannot be done, for a reason that the message says in full, with what to do about it.

    All errors that this project raises on purpose are of this kind: the command line shows their
    message in one line and no traceback, and adds which command or setting helps.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython and notebooks show: the message alone."""
        return [str(self)]


class RawLogError(RefusedError, ValueError):
    """A raw log that cannot be used; the message names file, column and row."""


class EncodedDataError(RefusedError, ValueError):
    """Encoded splits that do not belong together or cannot be trained and tested on."""


class StaleDataError(EncodedDataError):
    """What an interrupted preprocessing left: parts that are not of one run."""


class SettingsError(RefusedError, ValueError):
    """Settings that do not go together, or not with what is there."""


class StorageError(RefusedError, OSError):
    """A place where nothing more can be written."""


class StoreError(RefusedError, OSError):
    """A store that cannot be reached, or did not do what it was asked to."""


class EngineError(RefusedError, NotImplementedError):
    """An engine that this project does not know how to read with."""


class EngineMemoryError(RefusedError, MemoryError):
    """An engine whose memory limit does not suffice."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says: libraries put hints and a trace behind it."""
    return str(error).strip().partition("\n")[0]

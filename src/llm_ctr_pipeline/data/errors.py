"""What is raised when the input or the machine is at fault rather than the code."""


class RawLogError(ValueError):
    """A raw log that cannot be used; the message names file, column and row."""


class StorageError(OSError):
    """A place where nothing more can be written."""


class StoreError(OSError):
    """A store that cannot be reached, or did not do what it was asked to."""

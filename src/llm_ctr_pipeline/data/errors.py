"""What is raised when the input is at fault rather than the code."""


class RawLogError(ValueError):
    """A raw log that cannot be used; the message names file, column and row."""

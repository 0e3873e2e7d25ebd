"""The training paths by name."""

from typing import Literal, get_args

PathName = Literal["deepfm", "single_phase", "two_phase", "two_phase_finetuned"]
PATHS: tuple[str, ...] = get_args(PathName)


def in_two_phases(path: str) -> bool:
    """Whether a path trains on x1 and x2 before the log itself."""
    return path.startswith("two_phase")

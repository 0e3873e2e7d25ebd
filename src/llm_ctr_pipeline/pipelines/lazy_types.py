"""Types that nodes' annotations name and that bring PyTorch along, which takes seconds.

Kedro resolves all annotations of a node to find the settings among them, before any node runs and
before a typo is refused. It looks no further at those that are no settings.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_ctr_pipeline.serving.export import Export
    from llm_ctr_pipeline.training.checkpoint import Checkpoint
    from llm_ctr_pipeline.training.distillation.teacher import Teacher
else:
    Checkpoint = Export = Teacher = Any

__all__ = ["Checkpoint", "Export", "Teacher"]

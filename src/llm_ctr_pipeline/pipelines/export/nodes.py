"""What the export does."""

from llm_ctr_pipeline.models.settings import LlmSettings
from llm_ctr_pipeline.params import ExportParams
from llm_ctr_pipeline.pipelines.lazy_types import Checkpoint, Export


def export(checkpoint: Checkpoint, export: ExportParams, llm: LlmSettings) -> Export:
    """Bring the checkpoint's model into the format asked for."""
    from llm_ctr_pipeline.serving.export import export_checkpoint

    return export_checkpoint(checkpoint, export.to, llm)

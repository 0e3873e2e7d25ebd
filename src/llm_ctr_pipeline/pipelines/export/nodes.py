"""What the export does."""

from llm_ctr_pipeline.models.settings import LlmSettings
from llm_ctr_pipeline.params import ExportParams
from llm_ctr_pipeline.serving.export import Export, export_checkpoint
from llm_ctr_pipeline.training.checkpoint import Checkpoint


def export(checkpoint: Checkpoint, export: ExportParams, llm: LlmSettings) -> Export:
    """Bring the checkpoint's model into the format asked for."""
    return export_checkpoint(checkpoint, export.to, llm)

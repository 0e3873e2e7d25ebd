"""Writing a checkpoint in the format of another tool."""

from llm_ctr_pipeline.pipelines.export.pipeline import create_pipeline

__all__ = ["create_pipeline"]

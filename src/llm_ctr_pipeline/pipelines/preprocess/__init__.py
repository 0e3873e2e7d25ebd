"""From a raw log to encoded splits."""

from llm_ctr_pipeline.pipelines.preprocess.pipeline import create_pipeline

__all__ = ["create_pipeline"]

"""Setting the tests of several models side by side."""

from llm_ctr_pipeline.pipelines.compare.pipeline import create_pipeline

__all__ = ["create_pipeline"]

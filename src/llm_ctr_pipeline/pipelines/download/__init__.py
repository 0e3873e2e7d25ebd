"""The published raw logs, from the Hugging Face hub."""

from llm_ctr_pipeline.pipelines.download.pipeline import create_pipeline

__all__ = ["create_pipeline"]

"""The predict pipeline: a checkpoint and raw rows → probabilities."""

from llm_ctr_pipeline.pipelines.predict.pipeline import create_pipeline

__all__ = ["create_pipeline"]

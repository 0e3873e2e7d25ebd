"""Testing a checkpoint on a split."""

from llm_ctr_pipeline.pipelines.evaluate.pipeline import create_pipeline, create_test_pipeline

__all__ = ["create_pipeline", "create_test_pipeline"]

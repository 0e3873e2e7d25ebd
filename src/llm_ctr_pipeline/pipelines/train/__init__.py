"""The main job: single-phase training, then a test of the best checkpoint."""

from llm_ctr_pipeline.pipelines.train.pipeline import create_pipeline

__all__ = ["create_pipeline"]

"""Training of a baseline, DeepFM."""

from llm_ctr_pipeline.pipelines.train_deepfm.pipeline import create_pipeline

__all__ = ["create_pipeline"]

"""Training of a baseline, FinalMLP."""

from llm_ctr_pipeline.pipelines.train_finalmlp.pipeline import create_pipeline

__all__ = ["create_pipeline"]

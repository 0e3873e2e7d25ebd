"""Training of DeepFM on another path's log-odds."""

from llm_ctr_pipeline.pipelines.train_distilled.pipeline import create_pipeline

__all__ = ["create_pipeline"]

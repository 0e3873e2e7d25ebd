"""Training of the hybrid: the language model and DeepFM's terms together."""

from llm_ctr_pipeline.pipelines.train_hybrid.pipeline import create_pipeline

__all__ = ["create_pipeline"]

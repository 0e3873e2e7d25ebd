"""Training of a baseline, DCNv2."""

from llm_ctr_pipeline.pipelines.train_dcnv2.pipeline import create_pipeline

__all__ = ["create_pipeline"]

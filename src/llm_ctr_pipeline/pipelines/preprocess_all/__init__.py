"""From the three encodings of Avazu to encoded splits with ids of one joint vocabulary."""

from llm_ctr_pipeline.pipelines.preprocess_all.pipeline import create_pipeline

__all__ = ["create_pipeline"]

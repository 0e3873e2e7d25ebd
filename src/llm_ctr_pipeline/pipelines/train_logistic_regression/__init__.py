"""Training of a baseline, logistic regression."""

from llm_ctr_pipeline.pipelines.train_logistic_regression.pipeline import create_pipeline

__all__ = ["create_pipeline"]

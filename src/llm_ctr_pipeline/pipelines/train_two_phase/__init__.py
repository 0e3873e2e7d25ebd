"""The two-phase path with a frozen encoder."""

from llm_ctr_pipeline.pipelines.train_two_phase.pipeline import create_pipeline

__all__ = ["create_pipeline"]

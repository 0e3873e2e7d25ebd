"""The two-phase path whose first phase tunes the encoder."""

from llm_ctr_pipeline.pipelines.train_two_phase_finetuned.pipeline import create_pipeline

__all__ = ["create_pipeline"]

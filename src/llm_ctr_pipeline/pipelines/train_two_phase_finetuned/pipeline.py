"""The train_two_phase_finetuned pipeline: as train_two_phase, with other stages."""

from kedro.pipeline import Pipeline

from llm_ctr_pipeline.pipelines import train_two_phase


def create_pipeline() -> Pipeline:
    """Return the path whose first phase tunes the baseline's encoder too."""
    return train_two_phase.create_pipeline("two_phase_finetuned")

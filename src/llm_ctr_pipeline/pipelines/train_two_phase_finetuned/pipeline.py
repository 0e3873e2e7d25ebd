"""The train_two_phase_finetuned pipeline: as train_two_phase, with other stages."""

from kedro.pipeline import Pipeline

from llm_ctr_pipeline.pipelines.train_two_phase.pipeline import create_two_phases


def create_pipeline() -> Pipeline:
    """Return the path whose first phase tunes the baseline's encoder too."""
    return create_two_phases("two_phase_finetuned")

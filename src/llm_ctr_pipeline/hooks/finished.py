"""When a training is over: once all that its run makes is saved, and not before."""

from pathlib import Path

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from llm_ctr_pipeline.training.kept.finished import forget_trained, mark_finished

STATES = ".state_folder"


class FinishedHook:
    """Leaves the states of a training to the same command until the run's outputs are saved.

    `after_node_run` and even `after_dataset_saved` would be too early: the run's last output, or
    MLflow's copy of one, may still fail.
    """

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Forget what an earlier run trained: the outputs of this one are others."""
        for folder in _state_folders(pipeline, catalog):
            forget_trained(folder)

    @hook_impl(tryfirst=True)  # before the run lets go of its folders
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Mark what this run trained as finished."""
        for folder in _state_folders(pipeline, catalog):
            mark_finished(folder)


def _state_folders(pipeline: Pipeline, catalog: DataCatalog) -> list[Path]:
    """The folders that this run's trainings keep their states in."""
    names = sorted(name for name in pipeline.inputs() if name.endswith(STATES))
    return [catalog.load(name) for name in names]

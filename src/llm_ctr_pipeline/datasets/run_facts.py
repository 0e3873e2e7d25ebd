"""What a run knows of itself, for the nodes that write reports."""

from collections.abc import Callable
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from llm_ctr_pipeline.reporting.pages.facts import RunFacts


class RunFactsDataset(AbstractDataset[Any, RunFacts]):
    """Gives a node the facts of the run that it belongs to.

    Args:
        metadata: For other tools; Kedro ignores it.

    Attributes:
        find: Finds them; a hook sets it when a run begins.
    """

    def __init__(self, *, metadata: dict[str, Any] | None = None) -> None:
        self.metadata = metadata
        self.find: Callable[[], RunFacts] | None = None

    def load(self) -> RunFacts:
        """Find the facts.

        Raises:
            DatasetError: No run has begun.
        """
        if self.find is None:
            raise DatasetError(
                "what a run knows of itself is known while it runs: its report.html has it"
            )
        return self.find()

    def save(self, data: Any) -> NoReturn:
        """Refuse: nobody but the run knows."""
        raise DatasetError("the facts of a run are found, not saved")

    def _exists(self) -> bool:
        """Whether a run can have them: always."""
        return True

    def _describe(self) -> dict[str, Any]:
        return {}

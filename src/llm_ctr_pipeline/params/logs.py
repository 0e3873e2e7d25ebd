"""Parameters of raw logs: where they come from, what they look like, what is made of them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from llm_ctr_pipeline.data.hub.archive import Archive
from llm_ctr_pipeline.frozen import Frozen


class RawParams(Frozen):
    """`params:raw`, `params:x1.raw`, `params:x2.raw`: what the raw folder holds."""

    source: Literal["folder", "generated", "recoded"] = Field(
        description="A log of its own; or one that is written there: the generated log, or the log "
        "at hand in another encoding."
    )


class PreprocessParams(Frozen):
    """`params:preprocess`: how a raw log becomes model input."""

    min_count: int = Field(ge=1, description="Times a value must occur in train to get an id.")
    every_nth_row: int = Field(ge=1, description="Systematic sample of each raw file; 1 for all.")


class DownloadParams(Frozen):
    """`params:download`: which published raw logs are fetched."""

    datasets: str = Field(description="Names of archives, with spaces between them.")
    endpoint: str | None = Field(description="The hub's address; None for HF_ENDPOINT's.")
    archives: dict[str, Archive]

    @property
    def names(self) -> list[str]:
        """The archives asked for."""
        return self.datasets.split()

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        unknown = [name for name in self.names if name not in self.archives]
        if unknown or not self.names:
            raise ValueError(
                f"datasets is {self.datasets!r}: it should hold names out of "
                f"{', '.join(self.archives)}, with spaces between them"
            )
        return self

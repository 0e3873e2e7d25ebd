"""The feature map: the fields, how many ids each has, and what they were fit on.

Importable without Ibis, so that a model can be loaded where only torch is.
"""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Field:
    """One categorical field.

    Attributes:
        name: Its column in the encoded splits.
        size: Number of ids, with id 0 for "unknown": ids are 0 to size - 1.
    """

    name: str
    size: int


@dataclass(frozen=True)
class FitSource:
    """The data that a vocabulary was fit on.

    Attributes:
        source: "generated log", or the name of the raw folder.
        file: Name of the raw file.
        rows: Its data rows.
        clicks: Its rows with label 1.
        fingerprint: SHA-256 of the raw file's bytes.
    """

    source: str
    file: str
    rows: int
    clicks: int
    fingerprint: str


@dataclass(frozen=True)
class FeatureMap:
    """What a model must know of the data it is made for.

    Attributes:
        dataset: Short name of the log: `x4`.
        fields: The fields in the order of the encoded columns.
        min_count: How often a value had to occur in train to get an id.
        fit_on: The data that the vocabulary was fit on.
        fingerprint: SHA-256 over the fields, `min_count` and every (field, value, id).
    """

    dataset: str
    fields: tuple[Field, ...]
    min_count: int
    fit_on: FitSource
    fingerprint: str

    @property
    def names(self) -> tuple[str, ...]:
        """The fields' names, in order."""
        return tuple(field.name for field in self.fields)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The fields' numbers of ids, in order."""
        return tuple(field.size for field in self.fields)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each field's ids begin in one table over all fields."""
        return (0, *itertools.accumulate(self.sizes[:-1]))

    @property
    def total_size(self) -> int:
        """Rows of one table over all fields' ids."""
        return sum(self.sizes)

    def to_dict(self) -> dict[str, Any]:
        """Return the map as JSON types."""
        return {**asdict(self), "fields": [asdict(field) for field in self.fields]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Build the map from what `to_dict` returned.

        Raises:
            ValueError: If a key is missing or unknown.
        """
        try:
            return cls(
                **{
                    **content,
                    "fields": tuple(Field(**field) for field in content["fields"]),
                    "fit_on": FitSource(**content["fit_on"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"not a feature map ({error}): run `kedro run --pipeline=preprocess` again"
            ) from error

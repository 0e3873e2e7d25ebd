"""The feature map: the fields, how many ids each has, and what they were fit on.

Importable without Ibis, so that a model can be loaded where only torch is.
"""

from typing import Any

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.frozen import Frozen


class Field(Frozen):
    """One categorical field.

    Attributes:
        name: Its column in the encoded splits.
        size: Number of ids, with id 0 for "unknown": ids are 0 to size - 1.
    """

    name: str
    size: int


class FitSource(Frozen):
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


class Extension(Frozen):
    """A log whose values have the ids behind those of the map that a joint map extends.

    Attributes:
        dataset: Short name of the log: `x1`.
        fit_on: The data that its vocabulary was fit on.
        fingerprint: That of its own map.
    """

    dataset: str
    fit_on: FitSource
    fingerprint: str


class FeatureMap(Frozen):
    """What a model must know of the data it is made for.

    Attributes:
        dataset: Short name of the log: `x4`; `joint` for several logs together.
        fields: The fields in the order of the encoded columns.
        min_count: How often a value had to occur in train to get an id.
        fit_on: The data that the vocabulary was fit on; of a joint map that of the first log.
        fingerprint: SHA-256 over the fields, `min_count` and every (field, value, id); of a
            joint map over what it extends and every (dataset, field, value, id) added.
        extends: Of a joint map the fingerprint of the first log's map, whose ids are the first
            ids of each field; else None.
        extensions: Of a joint map the other logs, in the order in which ids were given.
    """

    dataset: str
    fields: tuple[Field, ...]
    min_count: int
    fit_on: FitSource
    fingerprint: str
    extends: str | None = None
    extensions: tuple[Extension, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The fields' names, in order."""
        return tuple(field.name for field in self.fields)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The fields' numbers of ids, in order."""
        return tuple(field.size for field in self.fields)

    def to_json(self) -> dict[str, Any]:
        """Return the map as JSON types; only a joint map names what it extends."""
        content = super().to_json()
        if self.extends is None:
            del content["extends"], content["extensions"]
        return content


class FingerprintError(RefusedError, ValueError):
    """Ids come from another feature map than the one they are read with."""


def check_ids(known: FeatureMap, fingerprint: str, extends: str | None) -> None:
    """Refuse ids that mean other values than a feature map says.

    A joint map and the map that it extends agree: the ids they share mean the same.

    Args:
        known: The map to read the ids with.
        fingerprint: That of the map which the ids come from.
        extends: That of the map which this one extends, if it is a joint map.

    Raises:
        FingerprintError: The two maps do not agree.
    """
    if fingerprint in {known.fingerprint, known.extends} or extends == known.fingerprint:
        return
    raise FingerprintError(
        f"the checkpoint was trained with feature map {known.fingerprint[:12]} and the data are "
        f"encoded with {fingerprint[:12]}, so its ids mean other values: train again on these "
        "data, or preprocess the data that it was trained on"
    )

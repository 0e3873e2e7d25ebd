"""What settings and records share: checked when made, never changed, written as JSON."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError


class Frozen(BaseModel):
    """A settings group or a record: no unknown keys, no change after validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON types, keys in the order of the attributes."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Build the record from what `to_json` returned.

        Raises:
            pydantic.ValidationError: If a key is missing or unknown, or a value is of another type.
        """
        return cls.model_validate(content)


def faults_of(error: ValidationError) -> str:
    """Say what is wrong: which keys are missing, which are unknown, and the first bad value."""
    by_type: dict[str, list[str]] = {"missing": [], "extra_forbidden": []}
    others = []
    for fault in error.errors():
        key = ".".join(map(str, fault["loc"]))
        if fault["type"] in by_type:
            by_type[fault["type"]].append(key)
        else:
            others.append(f"{key}: {fault['msg']}" if key else fault["msg"])
    missing, unknown = (", ".join(keys) for keys in by_type.values())
    said = [f"it lacks {missing}"] * bool(missing) + [f"it has {unknown} besides"] * bool(unknown)
    return "; ".join([*said, *others[:1]])

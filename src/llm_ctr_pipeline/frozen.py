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


def first_fault(error: ValidationError) -> str:
    """Say what is wrong first: the key and the reason."""
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"

"""What all parameter groups share."""

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """What all groups share: no unknown keys, no change after validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

"""What a number in the settings may be, in one place.

YAML's `true` is no number here, nothing is infinite, and nothing is so large that it overflows or
that no machine could hold it. What a number counts stands beside its bounds, as its unit.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("it should be a number, and true and false are none")
    return value


_NO_BOOLEAN = BeforeValidator(_no_boolean)
_MOST = 10**9


def unit(name: str) -> Any:
    """What a number counts, for the page of parameters."""
    return Field(json_schema_extra={"unit": name})


Real = Annotated[float, Field(allow_inf_nan=False), _NO_BOOLEAN]
# A number or code of the user's own, far from what an int64 holds.
Whole = Annotated[int, Field(ge=-(10**15), le=10**15), _NO_BOOLEAN]

# Of what is taken one by one: passes, steps, validations, rows of a file.
Count = Annotated[int, Field(ge=1, le=_MOST), _NO_BOOLEAN]
CountFromZero = Annotated[int, Field(ge=0, le=_MOST), _NO_BOOLEAN]
Epochs = Annotated[Count, unit("epochs")]
Steps = Annotated[Count, unit("steps")]
StepsFromZero = Annotated[CountFromZero, unit("steps")]
Validations = Annotated[Count, unit("validations")]
ValidationsFromZero = Annotated[CountFromZero, unit("validations")]
Rows = Annotated[Count, unit("rows")]
Minutes = Annotated[float, Field(gt=0, le=_MOST, allow_inf_nan=False), _NO_BOOLEAN, unit("minutes")]
# Rows that are computed together.
BatchRows = Annotated[int, Field(ge=1, le=10**7), _NO_BOOLEAN, unit("rows")]
# A width of a model's part; what they come to together is reckoned before a model is made.
Size = Annotated[int, Field(ge=1, le=2**20), _NO_BOOLEAN, unit("dimensions")]
Heads = Annotated[Size, unit("heads")]
Tokens = Annotated[Size, unit("tokens")]
Layers = Annotated[int, Field(ge=1, le=1000), _NO_BOOLEAN, unit("layers")]
# The epochs' own seeds, added to it, stay within 64 bits.
Seed = Annotated[int, Field(ge=0, le=2**63 - 1), _NO_BOOLEAN]
# With some thousands the process is aborted by the system.
Threads = Annotated[int, Field(ge=1, le=1024), _NO_BOOLEAN, unit("threads")]

LearningRate = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False), _NO_BOOLEAN]
LeastRate = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), _NO_BOOLEAN]
# A penalty's weight in the loss.
Penalty = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False), _NO_BOOLEAN]
# What a gradient's norm may be; none is meant by null.
Norm = Annotated[float, Field(gt=0, le=_MOST, allow_inf_nan=False), _NO_BOOLEAN]
# A share of something: of weights, rows or activations.
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), _NO_BOOLEAN, unit("share")]
TrueShare = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False), _NO_BOOLEAN, unit("share")]

# A name that stands in the names of files, and a file's name.
Name = Annotated[str, Field(pattern=r"^\w+$", max_length=64)]
FileName = Annotated[str, Field(min_length=1, max_length=255)]
# What a language model reads beside each row, at a cost for each word.
Text = Annotated[str, Field(max_length=20_000)]

"""What a report says of the run that made it."""

from llm_ctr_pipeline.frozen import Frozen


class ChangedSetting(Frozen):
    """A setting that differs from the default.

    Attributes:
        name: Its full name.
        default: What `conf/base` says, as JSON; None where it says nothing.
        used: What the run had, as JSON.
    """

    name: str
    default: str | None
    used: str


class RunFacts(Frozen):
    """Where a run comes from: what is needed to repeat it.

    Attributes:
        command: What was typed, without credentials.
        git_commit: The commit that the code is of; None where that is not known.
        git_changed: Whether the code was changed since.
        machine: Processor, cores, memory and system.
        versions: Of what computes, by name.
        changed: Settings of this run that differ from the defaults.
    """

    command: str
    git_commit: str | None
    git_changed: bool
    machine: str
    versions: dict[str, str]
    changed: tuple[ChangedSetting, ...]

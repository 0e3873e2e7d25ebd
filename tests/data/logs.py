"""Descriptions of small logs."""

from llm_ctr_pipeline.data.log.schema import FieldSource, LogSchema, Splitting


def log_of(*names: str, absent: tuple[str, ...] = ()) -> LogSchema:
    """A log of categorical columns, some of which it lacks."""
    sources = (
        FieldSource(name, *(("absent", None) if name in absent else ("categorical", name)))
        for name in names
    )
    splitting = Splitting({"train": "train.csv"}, {}, None, 0)
    return LogSchema("x4", ",", None, "label", (), (), (), tuple(sources), splitting)

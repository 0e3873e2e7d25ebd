"""What a raw log's columns are called and which fields are made of them."""

from dataclasses import dataclass

SPLITS: tuple[str, ...] = ("train", "valid", "test")

ROW = "row"
LABEL = "label"
HOUR, WEEKDAY, WEEKEND = "hour", "weekday", "weekend"
DERIVED_FIELDS: tuple[str, ...] = (HOUR, WEEKDAY, WEEKEND)


@dataclass(frozen=True)
class LogSchema:
    """The raw columns of one log and how the unified fields follow from them.

    Attributes:
        dataset: Short name of the log, as in file and catalog names: `x4`.
        raw_columns: Every column of the raw files. Files may hold them in any order.
        raw_label: Raw column of the label, `0` or `1`.
        raw_time: Raw column of the time as YYMMDDHH; hour, weekday and weekend derive from it.
        raw_fields: Raw columns that are fields under their own name, in field order.
    """

    dataset: str
    raw_columns: tuple[str, ...]
    raw_label: str
    raw_time: str
    raw_fields: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The categorical fields in order: raw ones first, then the derived ones."""
        return (*self.raw_fields, *DERIVED_FIELDS)


_AVAZU_FIELDS = (
    "C1",
    "banner_pos",
    "site_id",
    "site_domain",
    "site_category",
    "app_id",
    "app_domain",
    "app_category",
    "device_id",
    "device_ip",
    "device_model",
    "device_type",
    "device_conn_type",
    *(f"C{number}" for number in range(14, 22)),
)

AVAZU_X4 = LogSchema(
    dataset="x4",
    raw_columns=("id", "click", "hour", *_AVAZU_FIELDS),
    raw_label="click",
    raw_time="hour",
    raw_fields=_AVAZU_FIELDS,
)

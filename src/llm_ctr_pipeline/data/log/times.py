"""The formats in which a raw column may hold a time, and the parts of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from llm_ctr_pipeline.data.log.schema import DAY, DAYS_OF_WEEK, HOUR, WEEKDAY, WEEKEND

_SATURDAY = 6  # with Sunday as 0
_SECONDS_OF_HOUR, _SECONDS_OF_DAY = 3600, 86_400
_THURSDAY = 4  # 1 January 1970

# A day that exists; a fifth century year apart, every fourth year is a leap year.
_DAY_OF_YEAR = (
    r"(0[13578]|1[02])(0[1-9]|[12][0-9]|3[01])"
    r"|(0[469]|11)(0[1-9]|[12][0-9]|30)"
    r"|02(0[1-9]|1[0-9]|2[0-8])"
)
_DATE = rf"([0-9][0-9]({_DAY_OF_YEAR})|([02468][048]|[13579][26])0229)"
_HOUR_OF_DAY = r"([01][0-9]|2[0-3])"
_COMPACT = rf"^{_DATE}{_HOUR_OF_DAY}$"
_ISO_WITHOUT_DASHES = rf"^20{_DATE} {_HOUR_OF_DAY}:[0-5][0-9]:[0-5][0-9]$"

_Part = Callable[[ir.StringColumn], ir.IntegerColumn]


@dataclass(frozen=True)
class TimeFormat:
    """One way to write a time: expressions of the column that holds it.

    Attributes:
        expected: What a value must be, for an error.
        is_bad: Whether a value is no time in this format.
        hour: Hour of the day, 0 to 23.
        day: Day of the month, 1 to 31.
        weekday: Day of the week, 0 for Sunday to 6.
        sort_key: What sorts as the times do.
    """

    expected: str
    is_bad: Callable[[ir.StringColumn], ir.BooleanColumn]
    hour: _Part
    day: _Part
    weekday: _Part
    sort_key: Callable[[ir.StringColumn], ir.Column] = lambda time: time

    def part(self, time: ir.StringColumn, kind: str) -> ir.IntegerColumn:
        """The part that a field of this kind is."""
        if kind == WEEKEND:
            return is_weekend(self.weekday(time))
        return {HOUR: self.hour, DAY: self.day, WEEKDAY: self.weekday}[kind](time)


def is_weekend(weekday: ir.IntegerColumn) -> ir.IntegerColumn:
    """1 on Saturday and Sunday, else 0; weekday counts from Sunday as 0."""
    return weekday.isin([0, _SATURDAY]).cast("int8")


def _weekday(date: ir.DateColumn) -> ir.IntegerColumn:
    return (date.day_of_week.index() + 1) % DAYS_OF_WEEK  # Ibis counts from Monday


# Lengths are checked too: `$` also matches before a line break at the end.
FORMATS: Mapping[str, TimeFormat] = {
    "YYMMDDHH": TimeFormat(
        expected="YYMMDDHH: 8 digits, a day that exists and an hour from 00 to 23",
        is_bad=lambda time: (time.length() != len("YYMMDDHH")) | ~time.re_search(_COMPACT),
        hour=lambda time: time.substr(6, 2).cast("int8"),
        day=lambda time: time.substr(4, 2).cast("int8"),
        # Of the years 2000 to 2099.
        weekday=lambda time: _weekday((ibis.literal("20") + time.substr(0, 6)).as_date("%Y%m%d")),
    ),
    "YYYY-MM-DD HH:MM:SS": TimeFormat(
        expected="YYYY-MM-DD HH:MM:SS with a day that exists, in the years 2000 to 2099",
        is_bad=lambda time: (
            ~(
                (time.length() == len("YYYY-MM-DD HH:MM:SS"))
                & time.re_search(r"^[0-9]{4}-[0-9]{2}-[0-9]{2} ")
                & time.replace("-", "").re_search(_ISO_WITHOUT_DASHES)
            )
        ),
        hour=lambda time: time.substr(11, 2).cast("int8"),
        day=lambda time: time.substr(8, 2).cast("int8"),
        weekday=lambda time: _weekday(time.substr(0, 10).as_date("%Y-%m-%d")),
    ),
    # Parts are in UTC.
    "unix_seconds": TimeFormat(
        expected="whole seconds since 1970: 1 to 11 digits",
        is_bad=lambda time: ~time.re_search(r"^[0-9]{1,11}$") | time.contains("\n"),
        hour=lambda time: (time.cast("int64") % _SECONDS_OF_DAY) // _SECONDS_OF_HOUR,
        day=lambda time: time.cast("int64").as_timestamp("s").day(),
        weekday=lambda time: (time.cast("int64") // _SECONDS_OF_DAY + _THURSDAY) % DAYS_OF_WEEK,
        sort_key=lambda time: time.cast("int64"),
    ),
}

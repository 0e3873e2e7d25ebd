"""The formats in which a raw column may hold a time, and the parts of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

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
_LEAP_YEAR = r"([02468][048]|[13579][26])"
_HOUR_OF_DAY = r"([01][0-9]|2[0-3])"


class TimeFormat(ABC):
    """One way to write a time; strings of the same log sort as the times do."""

    expected: str

    @abstractmethod
    def is_bad(self, time: ir.StringColumn) -> ir.BooleanColumn:
        """Whether a value is no time in this format."""

    @abstractmethod
    def hour(self, time: ir.StringColumn) -> ir.IntegerColumn:
        """Hour of the day, 0 to 23."""

    @abstractmethod
    def day(self, time: ir.StringColumn) -> ir.IntegerColumn:
        """Day of the month, 1 to 31."""

    @abstractmethod
    def weekday(self, time: ir.StringColumn) -> ir.IntegerColumn:
        """Day of the week, 0 for Sunday to 6."""

    def sort_key(self, time: ir.StringColumn) -> ir.Column:
        """What sorts as the times do."""
        return time

    def part(self, time: ir.StringColumn, kind: str) -> ir.IntegerColumn:
        """The part that a field of this kind is."""
        if kind == WEEKEND:
            return is_weekend(self.weekday(time))
        parts = {HOUR: self.hour, DAY: self.day, WEEKDAY: self.weekday}
        return parts[kind](time)


class _Compact(TimeFormat):
    """YYMMDDHH, of the years 2000 to 2099."""

    expected = "YYMMDDHH: 8 digits, a day that exists and an hour from 00 to 23"
    _pattern = rf"^([0-9][0-9]({_DAY_OF_YEAR})|{_LEAP_YEAR}0229){_HOUR_OF_DAY}$"
    _length = 8

    def is_bad(self, time: ir.StringColumn) -> ir.BooleanColumn:
        # The length too: `$` also matches before a line break at the end.
        return (time.length() != self._length) | ~time.re_search(self._pattern)

    def hour(self, time: ir.StringColumn) -> ir.IntegerColumn:
        return time.substr(6, 2).cast("int8")

    def day(self, time: ir.StringColumn) -> ir.IntegerColumn:
        return time.substr(4, 2).cast("int8")

    def weekday(self, time: ir.StringColumn) -> ir.IntegerColumn:
        return _weekday((ibis.literal("20") + time.substr(0, 6)).as_date("%Y%m%d"))


class _Iso(TimeFormat):
    """YYYY-MM-DD HH:MM:SS, of the years 2000 to 2099."""

    expected = "YYYY-MM-DD HH:MM:SS with a day that exists, in the years 2000 to 2099"
    _pattern = (
        rf"^20([0-9][0-9]({_DAY_OF_YEAR})|{_LEAP_YEAR}0229) {_HOUR_OF_DAY}:[0-5][0-9]:[0-5][0-9]$"
    )
    _length = 19

    def is_bad(self, time: ir.StringColumn) -> ir.BooleanColumn:
        dashed = time.re_search(r"^[0-9]{4}-[0-9]{2}-[0-9]{2} ")
        in_length = time.length() == self._length
        return ~(in_length & dashed & time.replace("-", "").re_search(self._pattern))

    def hour(self, time: ir.StringColumn) -> ir.IntegerColumn:
        return time.substr(11, 2).cast("int8")

    def day(self, time: ir.StringColumn) -> ir.IntegerColumn:
        return time.substr(8, 2).cast("int8")

    def weekday(self, time: ir.StringColumn) -> ir.IntegerColumn:
        return _weekday(time.substr(0, 10).as_date("%Y-%m-%d"))


class _UnixSeconds(TimeFormat):
    """Whole seconds since 1970; parts are in UTC."""

    expected = "whole seconds since 1970: 1 to 11 digits"

    def is_bad(self, time: ir.StringColumn) -> ir.BooleanColumn:
        return ~time.re_search(r"^[0-9]{1,11}$") | time.contains("\n")

    def hour(self, time: ir.StringColumn) -> ir.IntegerColumn:
        return (time.cast("int64") % _SECONDS_OF_DAY) // _SECONDS_OF_HOUR

    def day(self, time: ir.StringColumn) -> ir.IntegerColumn:
        return time.cast("int64").as_timestamp("s").day()

    def weekday(self, time: ir.StringColumn) -> ir.IntegerColumn:
        return (time.cast("int64") // _SECONDS_OF_DAY + _THURSDAY) % DAYS_OF_WEEK

    def sort_key(self, time: ir.StringColumn) -> ir.Column:
        return time.cast("int64")


FORMATS: Mapping[str, TimeFormat] = {
    "YYMMDDHH": _Compact(),
    "YYYY-MM-DD HH:MM:SS": _Iso(),
    "unix_seconds": _UnixSeconds(),
}


def is_weekend(weekday: ir.IntegerColumn) -> ir.IntegerColumn:
    """1 on Saturday and Sunday, else 0; weekday counts from Sunday as 0."""
    return weekday.isin([0, _SATURDAY]).cast("int8")


def _weekday(date: ir.DateColumn) -> ir.IntegerColumn:
    return (date.day_of_week.index() + 1) % DAYS_OF_WEEK  # Ibis counts from Monday

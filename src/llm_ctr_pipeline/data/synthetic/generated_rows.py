"""Drawing the rows of a generated log: ids as Avazu has them, clicks of known probability.

A row is the impression of an ad on a site or in an app. A publisher (site or app) decides
its domain and category, an ad (C14) its size (C15, C16), campaign (C17) and what hangs on
that (C18, C19, C21); hours, devices and addresses are drawn apart. The log-odds of a click
are a sum of effects of single fields and of pairs of fields, so the best ranking of the
rows is known.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Strings = NDArray[np.str_]


@dataclass(frozen=True)
class Column:
    """One categorical column.

    Attributes:
        values: Its distinct values, strings of shape [values].
        index: Which of them each row has, int64 of shape [rows].
    """

    values: Strings
    index: Indices


@dataclass(frozen=True)
class GeneratedRows:
    """The rows of a generated log in the order drawn.

    Attributes:
        columns: Avazu's raw columns but `id` and `click`, by name.
        ids: Impression ids, uint64 of shape [rows].
        probabilities: True click probabilities, float64 of shape [rows].
        clicks: Labels drawn from them, int8 of shape [rows].
    """

    columns: Mapping[str, Column]
    ids: NDArray[np.uint64]
    probabilities: Floats
    clicks: NDArray[np.int8]


_SITE_SHARE = 0.64
_OWN_DEVICE_ID_SHARE = 0.17
_HEAVY_ADDRESS_SHARE = 0.16
_FIRST_DAY, _DAYS = 21, 10
_DAY_WEIGHTS = (1.0, 1.3, 1.0, 0.8, 0.85, 0.95, 0.8, 1.3, 0.9, 1.0)
_HOUR_WEIGHTS = (
    *(0.32, 0.42, 0.48, 0.50, 0.70, 0.76, 0.71, 0.75, 0.81, 0.88, 0.89, 0.85),
    *(0.88, 0.96, 0.92, 0.82, 0.82, 0.81, 0.66, 0.49, 0.44, 0.41, 0.38, 0.30),
)
_C1 = {
    **{"1005": 0.918, "1002": 0.055, "1010": 0.02, "1012": 0.003},
    **{"1007": 0.002, "1001": 0.001, "1008": 0.001},
}
_BANNER_POS = {"0": 0.70, "1": 0.28, "7": 0.01, "2": 0.004, "4": 0.003, "5": 0.002, "3": 0.001}
_SIZES = (("320", "50"), ("300", "250"), ("216", "36"), ("728", "90"), ("320", "480"))
_SIZE_WEIGHTS = (0.80, 0.12, 0.05, 0.01, 0.02)

# Standard deviations over the rows, in log-odds, of all effects of single fields together
# and of all effects of pairs together: they decide how well clicks can be ranked at all,
# and how much of that needs a model with interactions.
_DEVIATION = 1.20
_PAIR_DEVIATION = 0.80
# What each effect weighs beside the others. What many ids share (a category, a campaign's
# kind) weighs most, so that tens of thousands of rows teach it; addresses and device ids
# are noise, as a model has to find out.
_EFFECTS: Mapping[str, float] = {
    "banner_pos": 0.20,
    "site_id": 0.30,
    "site_category": 0.35,
    "app_id": 0.25,
    "app_category": 0.35,
    "device_model": 0.15,
    "device_conn_type": 0.25,
    "C14": 0.15,
    "C16": 0.25,
    "C17": 0.30,
    "C18": 0.45,
    "C20": 0.15,
    "C21": 0.35,
    "hour": 0.25,
}
_PAIR_EFFECTS: Mapping[tuple[str, str], float] = {
    ("banner_pos", "C18"): 0.55,
    ("site_category", "C18"): 0.40,
    ("app_category", "banner_pos"): 0.30,
}
# A value seen in a smaller share of the rows than about this has hardly an effect of its
# own: nobody could learn it.
_RARE_SHARE = 0.01


def draw_rows(rows: int, seed: int, click_rate: float) -> GeneratedRows:
    """Draw rows that are independent of each other, so any slice is a random split.

    Args:
        rows: How many.
        seed: The same seed and settings give the same rows.
        click_rate: Mean of the true click probabilities, within (0, 1).
    """
    rng = np.random.default_rng(seed)
    is_site = rng.random(rows) < _SITE_SHARE
    columns = {
        "hour": _draw_hours(rng, rows),
        **_draw_publishers(rng, "site", is_site, (500, 350, 12)),
        **_draw_publishers(rng, "app", ~is_site, (350, 40, 10)),
        **_draw_devices(rng, rows),
        **_draw_ads(rng, rows),
    }
    log_odds = _draw_log_odds(rng, columns)
    probabilities = _sigmoid(log_odds + _solve_intercept(log_odds, click_rate))
    clicks = (rng.random(rows) < probabilities).astype(np.int8)
    ids = rng.integers(10**13, 2**64 - 1, size=rows, dtype=np.uint64)
    return GeneratedRows(columns, ids, probabilities, clicks)


def _draw_hours(rng: np.random.Generator, rows: int) -> Column:
    values = [f"1410{_FIRST_DAY + day}{hour:02d}" for day in range(_DAYS) for hour in range(24)]
    weights = np.outer(_DAY_WEIGHTS, _HOUR_WEIGHTS).ravel()
    return Column(np.array(values), _draw_index(rng, weights, rows))


def _draw_publishers(
    rng: np.random.Generator, kind: str, present: NDArray[np.bool_], sizes: tuple[int, int, int]
) -> dict[str, Column]:
    """Draw sites or apps for the rows that have one; the others get each column's null code.

    `sizes` are the numbers of ids, of domains and of categories.
    """
    ids, domains, categories = sizes
    publisher = _draw_index(rng, _zipf(ids, shift=1.5, exponent=1.1), len(present))
    domain_of = np.minimum(np.arange(ids), rng.integers(domains, size=ids))
    category_of = rng.choice(categories, size=ids, p=_zipf(categories, shift=1.0, exponent=1.5))
    null_last = {
        f"{kind}_id": (ids, publisher),
        f"{kind}_domain": (domains, domain_of[publisher]),
        f"{kind}_category": (categories, category_of[publisher]),
    }
    return {
        name: Column(_hex_codes(rng, size + 1), np.where(present, index, size))
        for name, (size, index) in null_last.items()
    }


def _draw_devices(rng: np.random.Generator, rows: int) -> dict[str, Column]:
    # Nearly all device ids and addresses are seen once or twice, as in Avazu; only a few
    # shared addresses come back often.
    own_ids, heavy = rows, rows // 40 + 1
    device = np.where(
        rng.random(rows) < _OWN_DEVICE_ID_SHARE, rng.integers(own_ids, size=rows), own_ids
    )
    address = np.where(
        rng.random(rows) < _HEAVY_ADDRESS_SHARE,
        _draw_index(rng, _zipf(heavy, shift=5.0, exponent=1.0), rows),
        heavy + np.arange(rows),
    )
    return {
        "device_id": Column(_hex_codes(rng, own_ids + 1), device),
        "device_ip": Column(_hex_codes(rng, heavy + rows), address),
        "device_model": Column(
            _hex_codes(rng, 1600), _draw_index(rng, _zipf(1600, shift=6.0, exponent=1.1), rows)
        ),
        "device_type": _draw(rng, {"1": 0.923, "0": 0.054, "4": 0.02, "5": 0.003}, rows),
        "device_conn_type": _draw(rng, {"0": 0.85, "2": 0.09, "3": 0.055, "5": 0.005}, rows),
    }


def _draw_ads(rng: np.random.Generator, rows: int) -> dict[str, Column]:
    ads, campaigns = 700, 160
    ad = _draw_index(rng, _zipf(ads, shift=8.0, exponent=0.9), rows)
    # Every campaign has one of the first ads, the rest fall to campaigns at random.
    campaign_of = np.where(
        np.arange(ads) < campaigns, np.arange(ads), rng.integers(campaigns, size=ads)
    )
    campaign = campaign_of[ad]
    size = rng.choice(len(_SIZES), size=ads, p=_SIZE_WEIGHTS)[ad]
    kind_of = rng.choice(4, size=campaigns, p=[0.40, 0.30, 0.20, 0.10])
    target_of = rng.choice(45, size=campaigns, p=_zipf(45, shift=4.0, exponent=0.9))
    group_of = rng.choice(45, size=campaigns, p=_zipf(45, shift=2.0, exponent=0.9))
    widths, heights = np.array(_SIZES).T
    placements = _zipf(120, shift=5.0, exponent=1.0)
    return {
        "C1": _draw(rng, _C1, rows),
        "banner_pos": _draw(rng, _BANNER_POS, rows),
        "C14": Column(_numbers(rng, 375, 24052, ads), ad),
        "C15": Column(widths, size),
        "C16": Column(heights, size),
        "C17": Column(_numbers(rng, 112, 2758, campaigns), campaign),
        "C18": Column(np.array(["0", "3", "2", "1"]), kind_of[campaign]),
        "C19": Column(_numbers(rng, 33, 1959, 45), group_of[campaign]),
        "C20": _draw(
            rng, {"-1": 0.88} | {str(100_000 + at): w for at, w in enumerate(placements)}, rows
        ),
        "C21": Column(_numbers(rng, 13, 255, 45), target_of[campaign]),
    }


def _draw_log_odds(rng: np.random.Generator, columns: Mapping[str, Column]) -> Floats:
    """Sum the effects of fields and of pairs of fields, without the intercept."""
    hour_of_day = Column(np.array([*map(str, range(24))]), columns["hour"].index % 24)
    seen = {**columns, "hour": hour_of_day}
    single = paired = np.zeros(1)
    for name, weight in _EFFECTS.items():
        single = single + weight * _field_effect(rng, seen[name])
    for (first, second), weight in _PAIR_EFFECTS.items():
        paired = paired + weight * _pair_effect(rng, seen[first], seen[second])
    # Scaled as a whole: effects of fields that hang together (a campaign's) add up or
    # cancel by chance, and every seed should give a log of about the same difficulty.
    return _DEVIATION * _standardised(single) + _PAIR_DEVIATION * _standardised(paired)


def _field_effect(rng: np.random.Generator, column: Column) -> Floats:
    shares = np.bincount(column.index, minlength=len(column.values)) / len(column.index)
    return _standardised(_damped_normal(rng, shares)[column.index])


def _pair_effect(rng: np.random.Generator, first: Column, second: Column) -> Floats:
    """Draw an effect of two fields together that says nothing of either alone."""
    shape = (len(first.values), len(second.values))
    cell = np.ravel_multi_index((first.index, second.index), shape)
    shares = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape) / len(cell)
    effect = _damped_normal(rng, shares)
    # Taking out the means of rows and columns in turn converges to an effect orthogonal to
    # both fields: a model without interactions learns nothing of it.
    for _ in range(50):
        for axis in (0, 1):
            weight = shares.sum(axis=axis, keepdims=True)
            mean = (shares * effect).sum(axis=axis, keepdims=True) / np.maximum(weight, 1e-12)
            effect = effect - mean
    return _standardised(effect.ravel()[cell])


def _damped_normal(rng: np.random.Generator, shares: Floats) -> Floats:
    return rng.standard_normal(shares.shape) * shares / (shares + _RARE_SHARE)


def _standardised(effect: Floats) -> Floats:
    """Shift and scale an effect to mean 0 and standard deviation 1 over the rows."""
    centred = effect - effect.mean()
    scaled: Floats = centred / max(float(centred.std()), 1e-12)
    return scaled


def _solve_intercept(log_odds: Floats, click_rate: float) -> float:
    """Find the intercept that gives the click rate, by bisection."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        if _sigmoid(log_odds + middle).mean() < click_rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _sigmoid(log_odds: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-log_odds))


def _zipf(size: int, *, shift: float, exponent: float) -> Floats:
    """Return shares that fall with rank k as (k + shift)^-exponent; they sum to 1."""
    weights = np.power(np.arange(size, dtype=np.float64) + shift, -exponent)
    normalised: Floats = weights / weights.sum()
    return normalised


def _draw(rng: np.random.Generator, weights: Mapping[str, float], rows: int) -> Column:
    return Column(np.array([*weights]), _draw_index(rng, np.array([*weights.values()]), rows))


def _draw_index(rng: np.random.Generator, weights: Floats, rows: int) -> Indices:
    edges = np.cumsum(weights)
    drawn: Indices = np.searchsorted(edges, rng.random(rows) * edges[-1], side="right")
    return drawn


def _hex_codes(rng: np.random.Generator, size: int) -> Strings:
    """Draw distinct 8-digit hexadecimal codes."""
    codes = np.unique(rng.integers(2**32, size=size + size // 100 + 10))
    while len(codes) < size:
        codes = np.unique(np.concatenate([codes, rng.integers(2**32, size=size)]))
    return np.char.mod("%08x", rng.permutation(codes)[:size])


def _numbers(rng: np.random.Generator, low: int, high: int, size: int) -> Strings:
    """Draw distinct decimal codes from low to high."""
    return (low + rng.permutation(high - low + 1)[:size]).astype(np.str_)

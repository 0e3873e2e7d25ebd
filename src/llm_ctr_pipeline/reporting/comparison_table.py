"""A comparison as tables of text, the same for Markdown and for the terminal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARK = "†"  # on every number of a model that has a note

_MINUTE, _HOUR = 60, 3600
_SMALLEST_P = 0.0001

Model = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        columns: their titles; the first column holds the models' names.
        rows: as many cells each as there are columns.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def title_of(comparison: Mapping[str, Any]) -> str:
    """Say what was tested.

    Args:
        comparison: made by ``compare_models``.

    Returns:
        One line.
    """
    return (
        f"{comparison['dataset']} {comparison['split']}: {comparison['rows']:,} rows, click rate "
        f"{comparison['click_rate']:.4f} ({comparison['source']})"
    )


def tables_of(comparison: Mapping[str, Any]) -> tuple[Table, Table, Table]:
    """Put the numbers of a comparison into three narrow tables, one row a model.

    Args:
        comparison: made by ``compare_models``.

    Returns:
        How well each model ranks the rows, how good its probabilities are, and what its training
        took.
    """
    models = comparison["models"]
    base = comparison["baseline"]
    ranking: dict[str, Callable[[Model], str]] = {
        "AUC [95%]": lambda m: f"{m['auc']:.4f} [{m['auc_low']:.4f}, {m['auc_high']:.4f}]",
        f"AUC − {base} [95%]": _of_difference(_auc_difference),
        "p, Holm": _of_difference(lambda d: _p_value(d["p_value_holm"])),
    }
    if comparison["best_possible_auc"] is not None:
        ranking["of best"] = lambda m: f"{m['share_of_best']:.1%}".replace("-", "−")
    probabilities: dict[str, Callable[[Model], str]] = {
        "log loss": lambda m: f"{m['logloss']:.4f}",
        f"log loss − {base} [95%]": _of_difference(_logloss_difference),
        "accuracy": lambda m: f"{m['accuracy']:.2f}%",
        "calib. error": lambda m: f"{m['expected_calibration_error']:.4f}",
        "pred. / obs.": lambda m: f"{m['calibration_ratio']:.3f}",
    }
    cost: dict[str, Callable[[Model], str]] = {
        "training": lambda m: duration(m["training_seconds"]),
        "rows/s": lambda m: f"{m['rows_per_second']:,.0f}",
        "parameters": lambda m: _count(m["parameters"]),
        "trained": lambda m: _count(m["trained_parameters"]),
    }
    return _table(models, ranking), _table(models, probabilities), _table(models, cost)


def legend_of(comparison: Mapping[str, Any]) -> list[str]:
    """Say what the columns mean and what must be known of the numbers.

    Args:
        comparison: made by ``compare_models``.

    Returns:
        Sentences; caveats and the notes on marked models first.
    """
    notes = {model["note"] for model in comparison["models"]} - {None}
    tests = len(comparison["models"]) - 1
    corrected = f"corrected for {tests} comparisons by Holm's method" if tests > 1 else "one test"
    lines = [*comparison["caveats"], *(f"{MARK} {note}" for note in sorted(notes))]
    base = comparison["baseline"]
    lines += [
        f"AUC − {base}, log loss − {base}: paired on the same rows, the former by DeLong's method; "
        f"p: DeLong's test of no difference, {corrected}.",
        "The intervals say what other test rows would change, not what another training seed "
        "would: each number is of one training.",
    ]
    if comparison["best_possible_auc"] is not None:
        lines.append(
            f"Of best: share of the way from AUC 0.5 to {comparison['best_possible_auc']:.4f}, the "
            "best that any model can reach on this generated log."
        )
    without = f"; for {MARK} without the deepfm that it starts from" if notes else ""
    lines += [
        "Calib. error: mean distance of predicted and observed click rate over 15 bins of equally "
        "many rows; pred. / obs.: predicted over observed number of clicks.",
        f"Training: all stages, without validation{without}; rows/s: training rows; parameters: of "
        "all components; trained: those that any stage trains.",
    ]
    return lines


def markdown_of(comparison: Mapping[str, Any]) -> str:
    """Write a comparison as Markdown that can be pasted into a page.

    Args:
        comparison: made by ``compare_models``.

    Returns:
        Title, tables, legend, and the paths without results, if any.
    """
    parts = [f"**{title_of(comparison)}**"]
    parts += [_markdown_table(table) for table in tables_of(comparison)]
    parts += legend_of(comparison)
    parts += missing_of(comparison)
    return "\n\n".join(parts) + "\n"


def missing_of(comparison: Mapping[str, Any]) -> list[str]:
    """Name the paths that were not compared for want of results.

    Args:
        comparison: made by ``compare_models``, with the key ``missing`` or without.

    Returns:
        A sentence each, with the command that makes the results.
    """
    missing: Mapping[str, str] = comparison.get("missing", {})
    return [f"No results of {path} yet: `{command}`." for path, command in missing.items()]


def duration(seconds: float) -> str:
    """Write a time in the unit that fits it.

    Args:
        seconds: the time.

    Returns:
        For example ``8.1 s``, ``12 min`` or ``3.4 h``.
    """
    for unit, name in ((_HOUR, "h"), (_MINUTE, "min"), (1, "s")):
        # from two minutes and two hours on
        if seconds >= 2 * unit or unit == 1:
            value = seconds / unit
            return f"{value:.1f} {name}" if value < 10 else f"{value:,.0f} {name}"  # noqa: PLR2004
    raise AssertionError("the last unit takes all")


def _table(models: Sequence[Model], columns: Mapping[str, Callable[[Model], str]]) -> Table:
    rows = tuple((label(model), *(cell(model) for cell in columns.values())) for model in models)
    return Table(("model", *columns), rows)


def label(model: Model) -> str:
    """Name a model as tables and figures do.

    Args:
        model: its entry in a comparison.

    Returns:
        Its name, marked where there is a note on its numbers.
    """
    return f"{model['name']} {MARK}" if model["note"] else str(model["name"])


def _of_difference(cell: Callable[[Mapping[str, float]], str]) -> Callable[[Model], str]:
    """The cell of a difference; the baseline has none."""
    return lambda model: cell(model["difference"]) if model["difference"] else "–"


def _auc_difference(difference: Mapping[str, float]) -> str:
    return _signed(difference["auc"], difference["auc_low"], difference["auc_high"])


def _logloss_difference(difference: Mapping[str, float]) -> str:
    return _signed(difference["logloss"], difference["logloss_low"], difference["logloss_high"])


def _signed(value: float, low: float, high: float) -> str:
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]".replace("-", "−")


def _p_value(p_value: float) -> str:
    if p_value < _SMALLEST_P:
        return f"<{_SMALLEST_P}"
    return f"{p_value:.2g}" if p_value < 0.1 else f"{p_value:.2f}"  # noqa: PLR2004


def _count(number: int) -> str:
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return str(number)


def _markdown_table(table: Table) -> str:
    alignment = (":--", *("--:" for _ in table.columns[1:]))
    lines = (table.columns, alignment, *table.rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""A comparison as tables of text, the same for Markdown and for the terminal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llm_ctr_pipeline.metrics.comparison import Difference
from llm_ctr_pipeline.reporting.comparison import MARK, ComparedModel, Comparison
from llm_ctr_pipeline.training.settings import DISTILLED_PATH

MINUTE, HOUR = 60, 3600  # seconds
_SMALLEST_P = 0.0001

Columns = Mapping[str, Callable[[ComparedModel], str]]


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        columns: Their titles; the first column holds the models' names.
        rows: As many cells each as there are columns.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables_of(comparison: Comparison) -> tuple[Table, Table, Table]:
    """Put a comparison into three narrow tables: the ranking, the probabilities, the cost."""
    base = comparison.baseline
    ranking: dict[str, Callable[[ComparedModel], str]] = {
        "AUC [95%]": lambda m: (
            f"{with_std(m.auc, m.auc_seed_std)} [{m.auc_low:.4f}, {m.auc_high:.4f}]"
        ),
        f"AUC − {base} [95%]": _of_difference(lambda d: signed(d.auc, d.auc_low, d.auc_high)),
        "p, Holm": _of_difference(lambda d: p_value(d.p_value_holm)),
    }
    if comparison.best_possible_auc is not None:
        ranking["of best"] = lambda m: f"{m.share_of_best:.1%}".replace("-", "−")
    probabilities: dict[str, Callable[[ComparedModel], str]] = {
        "log loss": lambda m: with_std(m.logloss, m.logloss_seed_std),
        f"log loss − {base} [95%]": _of_difference(
            lambda d: signed(d.logloss, d.logloss_low, d.logloss_high)
        ),
        "accuracy": lambda m: f"{m.accuracy:.2f}%",
        "calib. error": lambda m: f"{m.expected_calibration_error:.4f}",
        "pred. / obs.": lambda m: f"{m.calibration_ratio:.3f}",
    }
    if comparison.group_by is not None:
        probabilities["gAUC"] = lambda m: "–" if m.gauc is None else f"{m.gauc:.4f}"
    cost: Columns = {
        "training": lambda m: duration(m.training_seconds),
        "rows/s": lambda m: f"{m.rows_per_second:,.0f}",
        "parameters": lambda m: count(m.parameters),
        "trained": lambda m: count(m.trained_parameters),
    }
    if _have_seeds(comparison):
        cost = {"seeds": lambda m: str(len(m.seeds)), **cost}
    return _table(comparison, ranking), _table(comparison, probabilities), _table(comparison, cost)


def legend_of(comparison: Comparison) -> list[str]:
    """Say in sentences what must be known of the numbers, and what the columns mean."""
    tests = len(comparison.models) - 1
    corrected = f"corrected for {tests} comparisons by Holm's method" if tests > 1 else "one test"
    base = comparison.baseline
    lines = [
        *comparison.caveats,
        *comparison.notes,
        f"AUC − {base}, log loss − {base}: paired on the same rows, the former by DeLong's method; "
        f"p: {_test_of(comparison)} of no difference, {corrected}.",
        *_sources_of_error(comparison),
    ]
    if comparison.best_possible_auc is not None:
        lines.append(
            f"Of best: share of the way from AUC 0.5 to {comparison.best_possible_auc:.4f}, the "
            "best that any model can reach on this generated log."
        )
    if comparison.group_by is not None:
        lines.append(
            f"gAUC: AUC within each value of {comparison.group_by}, weighted by the value's rows."
        )
    without = f"; for {MARK} without the deepfm that it starts from" if comparison.notes else ""
    if any(model.path == DISTILLED_PATH for model in comparison.models):
        without += f"; for {DISTILLED_PATH} without its teacher's training"
    return [
        *lines,
        "Calib. error: mean distance of predicted and observed click rate over 15 bins of equally "
        "many rows; pred. / obs.: predicted over observed number of clicks.",
        f"Training: all stages, without validation{without}; rows/s: training rows; parameters: of "
        "all components; trained: those that any stage trains.",
        *(f"No results of {path} yet: `{cmd}`." for path, cmd in comparison.missing.items()),
    ]


def markdown_of(comparison: Comparison) -> str:
    """Write a comparison as Markdown that can be pasted into a page: title, tables, legend."""
    tables = [_markdown_table(table) for table in tables_of(comparison)]
    return "\n\n".join([f"**{comparison.title}**", *tables, *legend_of(comparison)]) + "\n"


def with_std(mean: float, std: float | None) -> str:
    """Write a number, with its standard deviation over seeds if it is a mean over some."""
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def duration(seconds: float) -> str:
    """Write a time in the unit that fits it: `8.1 s`, `12 min` or `3.4 h`."""
    # From two minutes and two hours on.
    units = ((HOUR, "h"), (MINUTE, "min"))
    unit, name = next((one for one in units if seconds >= 2 * one[0]), (1, "s"))
    value = seconds / unit
    return f"{value:.1f} {name}" if value < 10 else f"{value:,.0f} {name}"  # noqa: PLR2004


def _have_seeds(comparison: Comparison) -> bool:
    return any(len(model.seeds) > 1 for model in comparison.models)


def _test_of(comparison: Comparison) -> str:
    return "Student's t test" if _have_seeds(comparison) else "DeLong's test"


def _sources_of_error(comparison: Comparison) -> list[str]:
    """Say which chance the intervals count: other test rows, other seeds."""
    if not _have_seeds(comparison):
        return [
            "The intervals say what other test rows would change, not what another training seed "
            "would: each number is of one training."
        ]
    lines = [
        "A model's numbers are means over its seeds; behind ± stand standard deviations over them. "
        "The interval of an AUC says what other test rows would change; that of a difference, and "
        "p, also what other seeds would."
    ]
    single = [model.name for model in comparison.models if len(model.seeds) == 1]
    if single:
        lines.append(
            f"Of {', '.join(single)} there is one training alone: what another seed of it would "
            "change is not counted."
        )
    return lines


def _table(comparison: Comparison, columns: Columns) -> Table:
    rows = (
        (model.label, *(cell(model) for cell in columns.values())) for model in comparison.models
    )
    return Table(("model", *columns), tuple(rows))


def _of_difference(cell: Callable[[Difference], str]) -> Callable[[ComparedModel], str]:
    """The cell of a difference; the baseline has none."""
    return lambda model: cell(model.difference) if model.difference else "–"


def signed(value: float, low: float, high: float) -> str:
    """Write a difference with its interval."""
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]".replace("-", "−")


def p_value(value: float) -> str:
    """Write a p-value."""
    if value < _SMALLEST_P:
        return f"<{_SMALLEST_P}"
    return f"{value:.2g}" if value < 0.1 else f"{value:.2f}"  # noqa: PLR2004


def count(number: int) -> str:
    """Write a number of weights: `1.25M`."""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return str(number)


def _markdown_table(table: Table) -> str:
    alignment = (":--", *("--:" for _ in table.columns[1:]))
    lines = (table.columns, alignment, *table.rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

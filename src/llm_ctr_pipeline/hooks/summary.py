"""The lines that a run which preprocessed, or tested, compared or used models ends with."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Pipeline
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from llm_ctr_pipeline.hooks.run_facts import command_of
from llm_ctr_pipeline.resolvers import from_project, project_root, tracking_uri
from llm_ctr_pipeline.tracking.outbox import LOCAL_SERVER

if TYPE_CHECKING:  # they bring scikit-learn along, and every command imports this module
    from llm_ctr_pipeline.hooks.tracking import TrackingHook
    from llm_ctr_pipeline.reporting.comparison import Comparison
    from llm_ctr_pipeline.reporting.comparison_table import Table as TextTable
    from llm_ctr_pipeline.reporting.evaluation import Evaluation

PIPE_WIDTH = 120


class SummaryHook:
    """Says after a run what came out and where it lies.

    Args:
        tracking: Knows where MLflow shows the run.
    """

    def __init__(self, tracking: "TrackingHook") -> None:
        self._tracking = tracking

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Print the summary, if the run preprocessed, or tested a model or compared some."""
        texts = [
            summary_of_preprocessing(run_params, pipeline, catalog),
            summary_of_run(pipeline, catalog, self._tracking.address),
            summary_of_scores(catalog) if "scored_rows" in pipeline.all_outputs() else "",
        ]
        for text in filter(None, texts):
            Console().print(text, highlight=False, soft_wrap=True)
        if any(texts) and Path.cwd() != Path(project_root()):
            print_project()
        if "comparison" in pipeline.all_outputs():
            place = _place(catalog, "comparison").parent
            # A file or a pipe has no width that tables would have to fit.
            console = Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)
            print_comparison(catalog.load("comparison"), place, console)


def print_project() -> None:
    """Say what the places above are relative to."""
    text = f"  {'places':<12}are below the project's folder, {project_root()}"
    Console().print(text, highlight=False, soft_wrap=True)


def summary_of_preprocessing(
    run_params: Mapping[str, Any], pipeline: Pipeline, catalog: DataCatalog
) -> str:
    """Describe the logs that a run encoded: rows, click rates, ids, place and the next command.

    Returns:
        Text in Rich's markup; empty where the run encoded none. Fields and what comes next are
        left out where the run also trained.
    """
    outputs = pipeline.all_outputs()
    encoded = sorted(name for name in outputs if name.rpartition(".")[2] == "summary")
    lines = [line for name in encoded for line in _lines_of_log(catalog, name)]
    if not encoded or any(name.endswith(".best_model") for name in outputs):
        return "\n".join(lines)
    lines += _lines_of_fields(catalog, encoded)
    lines.append("")
    lines += [f"  {'encoded':<12}{_place(catalog, name).parent}" for name in encoded]
    trained = "train_deepfm" if len(encoded) > 1 else "train"
    options = {key: run_params.get(key) for key in ("env", "runtime_params")}
    command = _command(command_of({**options, "pipeline_names": [trained]}))
    return "\n".join([*lines, f"  {'next':<12}[bold]{escape(command)}[/bold]"])


def _lines_of_log(catalog: DataCatalog, name: str) -> list[str]:
    """The splits of an encoded log."""
    summary = catalog.load(name)
    rows = sum(counts.rows for counts in summary.splits.values())
    lines = [f"\n[bold]{summary.dataset}[/bold]  ({rows:,} rows, {escape(summary.source)})"]
    for split, counts in summary.splits.items():
        lines.append(
            f"  {split:<12}{counts.rows:,} rows, click rate {counts.click_rate:.4f}, "
            f"{counts.unknown_share:.1%} of ids out of vocabulary"
        )
    return lines


def _lines_of_fields(catalog: DataCatalog, encoded: list[str]) -> list[str]:
    """How many ids each field has, and what share of rows has none of them.

    Of one encoded log that of each split, of several that of each log's test split.
    """
    summaries = [catalog.load(name) for name in encoded]
    if len(summaries) == 1:
        shares, feature_map = (
            dict(summaries[0].splits),
            encoded[0].replace("summary", "feature_map"),
        )
    else:
        shares = {f"{each.dataset} test": each.splits["test"] for each in summaries}
        feature_map = "joint.feature_map"
    sizes = {field.name: field.size for field in catalog.load(feature_map).fields}
    width = max(map(len, sizes)) + 2
    head = "".join(f"{title:>9}" for title in shares)
    lines = [f"\n  {'field':<{width}}{'ids':>9}{head}  out of vocabulary"]
    for field, size in sizes.items():
        shown = "".join(f"{one.unknown_share_by_field[field]:>9.1%}" for one in shares.values())
        lines.append(f"  {field:<{width}}{size:>9,}{shown}")
    return lines


def summary_of_run(pipeline: Pipeline, catalog: DataCatalog, address: str | None = None) -> str:
    """Describe what came out of a run: test metrics, places, and the commands to look further.

    Args:
        pipeline: The run's.
        catalog: The run's.
        address: Where MLflow shows the run; None where it is not logged.

    Returns:
        Text in Rich's markup; empty where the run tested no model.
    """
    outputs = sorted(pipeline.all_outputs())
    reports_of_tests = {"evaluation_report", "evaluation_test"}
    evaluations = [name for name in outputs if name.rpartition(".")[2] in reports_of_tests]
    if not evaluations:
        return ""
    reported = [catalog.load(name) for name in evaluations]
    lines = [line for evaluation in reported for line in _metric_lines(evaluation)]
    for name in outputs:
        if name.endswith(".training_results"):
            training = catalog.load(name)
            fast = f"{training.rows_per_second:,.0f} rows/s"
            lines.append(f"  {'training':<12}{training.seconds:,.1f} s, {fast}")
    lines.append("")
    shown = {"best_model": "checkpoint", "predictions": "predictions", "_page": "report"}
    for name, title in shown.items():
        lines += [f"  {title:<12}{_place(catalog, o)}" for o in outputs if o.endswith(name)]
    reports = {_place(catalog, name).parent for name in evaluations}
    lines += [f"  {'reports':<12}{folder}" for folder in sorted(reports)]
    lines += [line for evaluation in reported for line in _outdated_lines(evaluation, catalog)]
    lines += [
        "",
        f"  {'MLflow':<12}{_opened(address or LOCAL_SERVER)}",
        f"  {'pipeline':<12}[bold]{_command('kedro viz run')}[/bold], then open http://127.0.0.1:4141",
    ]
    return "\n".join(lines)


def summary_of_scores(catalog: DataCatalog) -> str:
    """Describe what scoring raw rows gave, in Rich's markup."""
    report = catalog.load("scoring_report")
    without = f", {report.unscored:,} of them without a probability" if report.unscored else ""
    lines = [f"\n[bold]{report.rows:,} rows scored{without}[/bold]  ({', '.join(report.files)})"]
    if report.mean_probability is not None:
        lines.append(f"  {'mean':<12}{report.mean_probability:.4f} predicted click rate")
    lines += [f"  {'scores':<12}{_place(catalog, 'scored_rows')}"]
    lines += [f"  {'report':<12}{_place(catalog, 'scoring_report')}"]
    return "\n".join(lines)


def print_comparison(comparison: "Comparison", place: Path, console: Console) -> None:
    """Print the tables of a comparison, what its columns mean, and the folder that holds it."""
    from llm_ctr_pipeline.reporting.comparison_table import legend_of, tables_of

    console.print(Text(f"\n{comparison.title}\n", style="bold"))
    for table in tables_of(comparison):
        shown = _shown_table(table)
        unbounded = console.options.update(max_width=1000)
        if console.measure(shown, options=unbounded).maximum > console.width:
            shown = _shown_table(table, tall=True)
        console.print(shown, "")
    console.print(Text("\n".join(legend_of(comparison))))
    found = {"report": f"{place}/report.html", "reports": place, "figures": f"{place}/*.html"}
    places = "".join(f"\n  {what:<12}{where}" for what, where in found.items())
    console.print(Text(places), soft_wrap=True)


def _shown_table(table: "TextTable", *, tall: bool = False) -> Table:
    """A table as Rich draws it; a tall one has its intervals on lines of their own."""

    def lines(cell: str) -> Text:
        for end, start in ((" ", "["), (" − ", ""), (". ", "")) if tall else ():
            cell = cell.replace(f"{end}{start}", f"{end.rstrip()}\n{start}")
        return Text(cell)

    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for number, column in enumerate(table.columns):
        shown.add_column(lines(column), justify="right" if number else "left", no_wrap=True)
    for row in table.rows:
        shown.add_row(*(lines(cell) for cell in row))
    return shown


def _metric_lines(evaluation: "Evaluation") -> list[str]:
    lines = [
        f"\n[bold]{evaluation.title}[/bold]  ({evaluation.rows:,} rows, {evaluation.source})",
        f"  {'AUC':<12}{evaluation.auc:.4f}   95% interval {evaluation.auc_low:.4f} to "
        f"{evaluation.auc_high:.4f}",
        f"  {'log loss':<12}{evaluation.logloss:.4f}",
        f"  {'accuracy':<12}{evaluation.accuracy:.2f} %",
        f"  {'calibration':<12}error {evaluation.expected_calibration_error:.4f}, "
        f"predicted over observed click rate {evaluation.calibration_ratio:.3f}",
    ]
    if evaluation.gauc is not None:
        lines.append(
            f"  {'gAUC':<12}{evaluation.gauc:.4f}   within values of {evaluation.group_by}, over "
            f"{evaluation.gauc_rows:,} rows"
        )
    if evaluation.best_possible_auc is not None:
        lines.append(
            f"  {'best AUC':<12}{evaluation.best_possible_auc:.4f}   that any model can reach "
            f"on this generated log; {evaluation.share_of_best:.1%} of the way from 0.5 closed"
        )
    return lines


def _outdated_lines(evaluation: "Evaluation", catalog: DataCatalog) -> list[str]:
    """Say that an earlier comparison does not hold what was just tested."""
    if "comparison" not in catalog or not catalog.exists("comparison"):
        return []
    try:
        comparison: Comparison = catalog.load("comparison")
    except DatasetError:
        return []  # an older version's, or damaged: who compares again gets a new one
    compared = {
        (model.name, "best_model", comparison.dataset, comparison.split)
        for model in comparison.models
        if None in model.run_ids
    }
    if (evaluation.name, evaluation.model, evaluation.dataset, evaluation.split) not in compared:
        return []
    folder = _place(catalog, "comparison").parent
    return [f"  {'outdated':<12}{folder} has an earlier {evaluation.name}: compare again"]


def _command(line: str) -> str:
    """A command as it works in the caller's shell, whether or not the environment is active."""
    program = line.split(maxsplit=1)[0]
    if shutil.which(program):
        return line
    folder = Path(sys.executable).parent
    here = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    return f"{here}/{line}"


def _mlflow_ui() -> str:
    """The command that shows MLflow's runs: it looks for its database in the working directory."""
    elsewhere = Path.cwd() != Path(project_root()) and tracking_uri().startswith("sqlite:")
    place = f" --backend-store-uri {tracking_uri()}" if elsewhere else ""
    return _command(f"mlflow ui{place}")


def _opened(address: str) -> str:
    """How to open a page of MLflow's, whose server a database lacks."""
    is_local = address.startswith(LOCAL_SERVER)
    start = f"[bold]{_mlflow_ui()}[/bold], then " if is_local else ""
    return f"{start}open {address}"


def _place(catalog: DataCatalog, name: str) -> Path:
    """Where a dataset lies, from the project's folder where it is below that."""
    place: Path = from_project(catalog.get(name)._filepath)  # type: ignore[union-attr]
    return place

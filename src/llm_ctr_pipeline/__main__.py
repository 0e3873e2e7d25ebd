"""Run the installed package: `python -m llm_ctr_pipeline`, or its `upload`."""

import sys
from pathlib import Path

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project

from llm_ctr_pipeline.cli import upload


def main() -> None:
    """Hand the command line's arguments to Kedro's run command, or to ours."""
    package_name = Path(__file__).parent.name
    configure_project(package_name)
    if sys.argv[1:2] == ["upload"]:
        upload(sys.argv[2:])
    find_run_command(package_name)(sys.argv[1:])


if __name__ == "__main__":
    main()

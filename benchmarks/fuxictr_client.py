"""FuxiCTR's models as opponents and references, in an environment of its own.

Shape legend: N rows, F fields.
"""

import json
import logging
import os
import subprocess
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.baselines.deepfm import DeepFm
from llm_ctr_pipeline.models.baselines.description import Baseline
from llm_ctr_pipeline.models.baselines.finalmlp import FinalMlp

logger = logging.getLogger(__name__)

# Its preprocessing calls polars in a way that polars 2 no longer takes.
REQUIREMENTS = ("fuxictr==2.3.10", "polars<2")
FOLDER_SETTING = "FUXICTR_ENVIRONMENT"
DEFAULT_FOLDER = Path(__file__).parents[1] / ".venv" / "fuxictr"
WORKER = Path(__file__).with_name("fuxictr_worker.py")
PIP_SECONDS = 900


class FuxiCtrMissingError(RuntimeError):
    """FuxiCTR's environment is not there and could not be made."""


def fuxictr_python(folder: Path | None = None) -> Path:
    """Python of an environment that has FuxiCTR, made at the first call.

    It stands on this environment's packages, so that both compute with the same torch; what
    FuxiCTR needs besides, or in another version, comes on top and is seen by it alone.

    Args:
        folder: Where the environment is; else what `FUXICTR_ENVIRONMENT` names, else
            `.venv/fuxictr`.

    Raises:
        FuxiCtrMissingError: pip could not install it.
    """
    folder = folder or Path(os.environ.get(FOLDER_SETTING) or DEFAULT_FOLDER)
    python = folder / "bin" / "python"
    installed = folder / "installed.txt"
    if installed.exists() and installed.read_text() == " ".join(REQUIREMENTS):
        return python
    logger.info("Installing %s into %s", " ".join(REQUIREMENTS), folder)
    venv.create(folder, with_pip=True)
    site_packages = sysconfig.get_path("purelib", vars={"base": str(folder)})
    borrowed = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    (Path(site_packages) / "borrowed.pth").write_text("\n".join(dict.fromkeys(borrowed)) + "\n")
    try:
        subprocess.run(  # noqa: S603
            [python, "-m", "pip", "install", "--quiet", *REQUIREMENTS],
            check=True,
            capture_output=True,
            text=True,
            timeout=PIP_SECONDS,
        )
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", None) or error
        raise FuxiCtrMissingError(
            f"{REQUIREMENTS[0]} could not be installed into {folder}: {said}\n"
            f"Make the environment where pip works and set {FOLDER_SETTING} to its folder."
        ) from error
    installed.write_text(" ".join(REQUIREMENTS))
    return python


class FuxiCtr:
    """FuxiCTR's model with the weights of one of ours, in a process of its own.

    Args:
        python: From `fuxictr_python`.
        folder: For the files that hand weights and rows over.
        model: The baseline (no GEN) whose weights it takes over.
        rows: What it trains on; the first `batch_size` of them are the ready batch.
        batch_size: Rows of a batch.
        lr: Adam's learning rate.
        device: `cpu` or `cuda`.
    """

    def __init__(
        self,
        python: Path,
        folder: Path,
        model: Baseline,
        rows: EncodedSplit,
        batch_size: int,
        lr: float = 1e-3,
        device: str = "cpu",
    ) -> None:
        torch.save(fuxictr_weights(model), folder / "weights.pt")
        # As FuxiCTR's preprocessing writes them: whole numbers, and labels as floats.
        columns = {f"field_{number}": ids_N for number, ids_N in enumerate(rows.ids_NF.long().T)}
        np.savez(folder / "rows.npz", **columns, label=rows.labels_N.double())
        threads = torch.get_num_threads()
        self._process = subprocess.Popen(  # noqa: S603
            [python, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        self._ask(
            "build",
            folder=str(folder),
            field_sizes=model.field_sizes,
            settings=model.settings.to_json(),
            batch_size=batch_size,
            lr=lr,
            device=device,
            threads=threads,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def logits(self) -> Tensor:
        """Log-odds of the ready batch, float32 `[N]`."""
        return torch.tensor(self._ask("logits"))

    def training_logits(self) -> Tensor:
        """Log-odds of the ready batch by its own statistics, float32 `[N]`."""
        return torch.tensor(self._ask("training_logits"))

    def loss(self) -> float:
        """Loss of the ready batch."""
        return float(self._ask("loss"))

    def step(self) -> None:
        """Train one step on the ready batch."""
        self._ask("step")

    def epoch(self) -> None:
        """Train on all rows once, through FuxiCTR's loader."""
        self._ask("epoch")

    def _ask(self, do: str, **details: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("FuxiCTR's process has no pipes")
        stdin.write(json.dumps({"do": do, **details}) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"FuxiCTR's process ended in {do!r}; what it said stands above")
        return json.loads(line)["result"]


def fuxictr_weights(model: Baseline) -> Mapping[str, Tensor]:
    """Our model's weights and statistics under FuxiCTR's names: a table for each field.

    An MLP's layers have the same numbers there, so that another order of them does not fit.
    """
    if isinstance(model, DeepFm) and model.gen is not None:
        raise ValueError("FuxiCTR's DeepFM has no GEN: compare with a model without it")
    weights: dict[str, Tensor] = {}
    lr_layer = "fm.lr_layer" if isinstance(model, DeepFm) else "lr_layer"
    tables = {"embedding": "embedding_layer", "linear": f"{lr_layer}.embedding_layer"}
    # By the beginning of ours, what FuxiCTR has there; of MLPs with their output layer, theirs.
    names = {"bias": "lr_layer.bias", "cross.layers": "cross.cross_layers"}
    if isinstance(model, DeepFm):
        weights["fm.lr_layer.bias"] = torch.zeros(1)
        names["output"] = f"mlp.mlp.{len(model.mlp.layers)}"
    if isinstance(model, FinalMlp):
        last = 2 * len(model.settings.gate_hidden_sizes)
        for gate in ("second_gate", "gate"):
            names[f"{gate}.mlp.layers"] = f"gates.{gate}.mlp"
            names[f"{gate}.output"] = f"gates.{gate}.mlp.{last}"
            names[f"{gate}.context"] = f"contexts.{gate}"
        names |= {"output.": ""}
    names |= {"mlp.layers": "mlp.mlp", "second_mlp.layers": "second_mlp.mlp"}
    for name, weight in model.state_dict().items():
        part, is_table, _ = name.partition(".table.weight")
        if is_table:
            for number, table in enumerate(torch.split(weight, list(model.field_sizes))):
                field = f"embedding_layer.embedding_layers.field_{number}.weight"
                weights[f"{tables[part]}.{field}"] = table.clone()
            continue
        ours = next((beginning for beginning in names if name.startswith(beginning)), "")
        theirs = names.get(ours, "") + name.removeprefix(ours)
        weights[theirs] = weight.reshape(1) if theirs == "lr_layer.bias" else weight.clone()
    return weights

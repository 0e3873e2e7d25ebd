"""FuxiCTR's models behind a pipe; runs with FuxiCTR's own Python, not with the project's.

One JSON object a line comes in, `{"do": …}`, and one goes out. Its package on PyPI holds the
layers, the training step, the loop over an epoch and the loader, all used here as they are; its
model zoo is in its repository alone, so the lines that put the layers together stand here.
"""

import json
import os
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from fuxictr.features import FeatureMap  # type: ignore[import-not-found]
from fuxictr.pytorch.dataloaders import RankDataLoader  # type: ignore[import-not-found]
from fuxictr.pytorch.layers import (  # type: ignore[import-not-found]
    CrossNetV2,
    FactorizationMachine,
    FeatureEmbedding,
    LogisticRegression,
    MLP_Block,
)
from fuxictr.pytorch.models import BaseModel  # type: ignore[import-not-found]
from torch import Tensor, nn
from torch.nn import functional


class Reference(BaseModel):  # type: ignore[misc]
    """A model from FuxiCTR's layers, with Adam."""

    def __init__(self, feature_map: Any, job: dict[str, Any]) -> None:
        gpu = 0 if job["device"] == "cuda" else -1
        super().__init__(feature_map, gpu=gpu, verbose=0, model_root=job["folder"], metrics=["AUC"])
        self.build(feature_map, job["settings"])
        self.compile("adam", "binary_crossentropy", lr=job["lr"])
        self.model_to_device()

    def build(self, feature_map: Any, settings: dict[str, Any]) -> None:
        """Make the layers."""
        raise NotImplementedError

    def logits(self, inputs: dict[str, Tensor]) -> Tensor:
        """Log-odds, `[B, 1]`."""
        raise NotImplementedError

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Probabilities, as FuxiCTR's training step takes them."""
        return {"y_pred": self.output_activation(self.logits(inputs))}


class LR(Reference):
    """Logistic regression."""

    def build(self, feature_map: Any, settings: dict[str, Any]) -> None:
        """Make the layers."""
        self.lr_layer = LogisticRegression(feature_map)

    def logits(self, inputs: dict[str, Tensor]) -> Tensor:
        """Log-odds, `[B, 1]`."""
        log_odds_B1: Tensor = self.lr_layer(self.get_inputs(inputs))
        return log_odds_B1


class DeepFM(Reference):
    """The standard DeepFM."""

    def build(self, feature_map: Any, settings: dict[str, Any]) -> None:
        """Make the layers."""
        self.embedding_layer = FeatureEmbedding(feature_map, settings["embedding_dim"])
        self.fm = FactorizationMachine(feature_map)
        self.mlp = _mlp(feature_map, settings, output_dim=1)

    def logits(self, inputs: dict[str, Tensor]) -> Tensor:
        """Log-odds, `[B, 1]`."""
        columns = self.get_inputs(inputs)
        embedded_BFD = self.embedding_layer(columns)
        deep_B1 = self.mlp(embedded_BFD.flatten(start_dim=1))
        total_B1: Tensor = self.fm(columns, embedded_BFD) + deep_B1
        return total_B1


class DCNv2(Reference):
    """DCNv2 with full matrices."""

    def build(self, feature_map: Any, settings: dict[str, Any]) -> None:
        """Make the layers."""
        width = feature_map.sum_emb_out_dim()
        self.parallel = settings["structure"] == "parallel"
        self.embedding_layer = FeatureEmbedding(feature_map, settings["embedding_dim"])
        self.cross = CrossNetV2(width, settings["cross_layers"])
        self.mlp = _mlp(feature_map, settings)
        self.output = nn.Linear(settings["hidden_sizes"][-1] + self.parallel * width, 1)

    def logits(self, inputs: dict[str, Tensor]) -> Tensor:
        """Log-odds, `[B, 1]`."""
        embedded_BI = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        crossed_BI = self.cross(embedded_BI)
        if self.parallel:
            features = torch.cat([crossed_BI, self.mlp(embedded_BI)], dim=-1)
        else:
            features = self.mlp(crossed_BI)
        log_odds_B1: Tensor = self.output(features)
        return log_odds_B1


class FinalMLP(Reference):
    """FinalMLP; FuxiCTR's package has none of its fusion, so PyTorch's bilinear form stands in."""

    def build(self, feature_map: Any, settings: dict[str, Any]) -> None:
        """Make the layers."""
        dim, width = settings["embedding_dim"], feature_map.sum_emb_out_dim()
        self.embedding_layer = FeatureEmbedding(feature_map, dim)
        second = {
            name: settings[f"second_{name}"] for name in ("hidden_sizes", "dropout", "batch_norm")
        }
        self.mlp = _mlp(feature_map, settings)
        self.second_mlp = _mlp(feature_map, second)
        self.gates = nn.ModuleDict()
        self.contexts = nn.ParameterDict()
        for name in ("gate", "second_gate") if settings["gating"] else ():
            self.contexts[name] = nn.Parameter(torch.zeros(dim))
            self.gates[name] = MLP_Block(
                input_dim=dim,
                output_dim=width,
                hidden_units=settings["gate_hidden_sizes"],
                output_activation="Sigmoid",
            )
        left, right = settings["hidden_sizes"][-1], settings["second_hidden_sizes"][-1]
        self.left, self.right = nn.Linear(left, 1), nn.Linear(right, 1, bias=False)
        heads = settings["heads"]
        self.weight = nn.Parameter(torch.zeros(heads, left // heads, right // heads))

    def logits(self, inputs: dict[str, Tensor]) -> Tensor:
        """Log-odds, `[B, 1]`."""
        embedded_BI = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        weighed = {
            name: embedded_BI * 2 * gate(self.contexts[name].repeat(len(embedded_BI), 1))
            for name, gate in self.gates.items()
        }
        left_BK = self.mlp(weighed.get("gate", embedded_BI))
        right_BL = self.second_mlp(weighed.get("second_gate", embedded_BI))
        heads = len(self.weight)
        parts = zip(left_BK.chunk(heads, 1), right_BL.chunk(heads, 1), self.weight, strict=True)
        log_odds_B1: Tensor = self.left(left_BK) + self.right(right_BL)
        for left, right, weight in parts:
            log_odds_B1 = log_odds_B1 + functional.bilinear(left, right, weight[None])
        return log_odds_B1


MODELS = {"logistic_regression": LR, "deepfm": DeepFM, "dcnv2": DCNv2, "finalmlp": FinalMLP}


def _mlp(feature_map: Any, settings: dict[str, Any], output_dim: int | None = None) -> Any:
    return MLP_Block(
        input_dim=feature_map.sum_emb_out_dim(),
        output_dim=output_dim,
        hidden_units=settings["hidden_sizes"],
        dropout_rates=settings["dropout"],
        batch_norm=settings["batch_norm"],
    )


class Worker:
    """A model with its weights, a ready batch, and a loader of all rows."""

    def __init__(self, job: dict[str, Any]) -> None:
        torch.set_num_threads(job["threads"])
        folder = Path(job["folder"])
        feature_map = FeatureMap("benchmark", str(folder))
        feature_map.features = OrderedDict(
            (f"field_{number}", {"type": "categorical", "source": "", "vocab_size": size})
            for number, size in enumerate(job["field_sizes"])
        )
        feature_map.labels = ["label"]
        feature_map.num_fields = feature_map.get_num_fields()
        feature_map.default_emb_dim = job["settings"].get("embedding_dim", 1)
        feature_map.set_column_index()
        self.model = MODELS[job["settings"]["model"]](feature_map, job)
        self.model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
        rows = str(folder / "rows.npz")
        sizes = {"batch_size": job["batch_size"], "stage": "train"}
        in_order, _ = RankDataLoader(
            feature_map, train_data=rows, shuffle=False, num_workers=0, **sizes
        )
        self.batch = {
            name: column.to(self.model.device) for name, column in next(iter(in_order)).items()
        }
        self.loader, _ = RankDataLoader(feature_map, train_data=rows, shuffle=True, **sizes)
        # What `fit` sets before its first epoch; it would also validate and write checkpoints.
        self.model._max_gradient_norm = 10.0
        self.model._total_steps = 0
        self.model._eval_steps = sys.maxsize
        self.model._stop_training = False

    def logits(self) -> list[float]:
        """Log-odds of the ready batch."""
        self.model.eval()
        return self._logits()

    def training_logits(self) -> list[float]:
        """Log-odds of the ready batch as training computes them, by the batch's own statistics."""
        self.model.train()
        return self._logits()

    def _logits(self) -> list[float]:
        with torch.no_grad():
            values: list[float] = self.model.logits(self.batch)[:, 0].tolist()
        return values

    def loss(self) -> float:
        """FuxiCTR's own loss of the ready batch."""
        self.model.eval()
        with torch.no_grad():
            labels = self.model.get_labels(self.batch)
            return float(self.model.compute_loss(self.model.forward(self.batch), labels))

    def step(self) -> None:
        """FuxiCTR's own training step on the ready batch."""
        self.model.train()
        self.model.train_step(self.batch)

    def epoch(self) -> None:
        """FuxiCTR's own loop over an epoch, through its loader."""
        self.model.train_epoch(self.loader)

    def wait(self) -> None:
        """Empty the device's queue."""
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    """Answer until the pipe closes."""
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker: Worker | None = None
    for line in sys.stdin:
        job = json.loads(line)
        start = time.perf_counter()
        result = None
        if job["do"] == "build":
            worker = Worker(job)
        else:
            result = getattr(worker, job["do"])()
            if worker is not None:
                worker.wait()
        answer = {"result": result, "seconds": time.perf_counter() - start}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

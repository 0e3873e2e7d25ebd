"""FuxiCTR's DeepFM behind a pipe; runs with FuxiCTR's own Python, not with the project's.

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
    FactorizationMachine,
    FeatureEmbedding,
    MLP_Block,
)
from fuxictr.pytorch.models import BaseModel  # type: ignore[import-not-found]


class DeepFM(BaseModel):  # type: ignore[misc]
    """The standard DeepFM from FuxiCTR's layers, with Adam."""

    def __init__(self, feature_map: Any, job: dict[str, Any]) -> None:
        gpu = 0 if job["device"] == "cuda" else -1
        super().__init__(feature_map, gpu=gpu, verbose=0, model_root=job["folder"], metrics=["AUC"])
        self.embedding_layer = FeatureEmbedding(feature_map, job["embedding_dim"])
        self.fm = FactorizationMachine(feature_map)
        self.mlp = MLP_Block(
            input_dim=feature_map.sum_emb_out_dim(),
            output_dim=1,
            hidden_units=job["hidden_sizes"],
        )
        self.compile("adam", "binary_crossentropy", lr=job["lr"])
        self.model_to_device()

    def logits(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Log-odds, `[B, 1]`."""
        columns = self.get_inputs(inputs)
        embedded_BFD = self.embedding_layer(columns)
        deep_B1 = self.mlp(embedded_BFD.flatten(start_dim=1))
        total_B1: torch.Tensor = self.fm(columns, embedded_BFD) + deep_B1
        return total_B1

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Probabilities, as FuxiCTR's training step takes them."""
        return {"y_pred": self.output_activation(self.logits(inputs))}


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
        feature_map.default_emb_dim = job["embedding_dim"]
        feature_map.set_column_index()
        self.model = DeepFM(feature_map, job)
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

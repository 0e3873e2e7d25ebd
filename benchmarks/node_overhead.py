"""What the training loop costs beside the same steps in a bare PyTorch loop.

python -m benchmarks.node_overhead
"""

import copy

import torch
import torch.nn.functional as F

from benchmarks.measure import report, side_by_side
from benchmarks.models import FIELDS, IDS_A_FIELD, SIZES, build_pair
from llm_ctr_pipeline.data.input.batches import EncodedSplit, shuffled_batches
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training.fit import fit
from llm_ctr_pipeline.training.optimizer import build_optimizer
from llm_ctr_pipeline.training.settings import TrainingSettings

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(
    device="cpu",
    cpu_threads=1,
    precision="auto",
    float32_matmul="highest",
    deterministic=False,
    compile="auto",
    eval_batch_size=4096,
    micro_batch_size=None,
    activation_checkpointing="auto",
    strategy="auto",
    epochs=1,
    batch_size=128,
    lr=5e-4,
    encoder_lr=1e-3,
    lr_schedule="constant",
    lr_factor=0.1,
    lr_warmup_steps=0,
    lr_min=0.0,
    weight_decay=0.01,
    redraw_embeddings=False,
    patience=2,
    early_stopping_metric="auc",
    validate_every_steps=None,
    seed=0,
    resume=False,
    keep_state_every=0,
    keep_state_every_steps=None,
    keep_state_every_minutes=None,
    rows_in="memory",
    stream_buffer_rows=4096,
)


def bare_loop(model: LlmCtr, train: EncodedSplit) -> None:
    """The steps of one epoch and nothing else."""
    optimizer = build_optimizer(model, SETTINGS.lr, SETTINGS.encoder_lr, SETTINGS.weight_decay)
    for rows_B in shuffled_batches(len(train), SETTINGS.batch_size, SETTINGS.seed, 0, CPU):
        ids_BF, labels_B = train.take(rows_B)
        loss = F.binary_cross_entropy_with_logits(model(ids_BF), labels_B)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def main() -> None:
    """Time one epoch of 4,096 rows; the validation, which the bare loop lacks, has 64."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    train, valid = (
        EncodedSplit(
            torch.randint(0, IDS_A_FIELD, (rows, FIELDS), generator=generator).int(),
            torch.randint(0, 2, (rows,), generator=generator).float(),
        )
        for rows in (4096, 64)
    )
    model, _ = build_pair(SIZES["embedded default"], SETTINGS)
    timing = side_by_side(
        lambda: fit(copy.deepcopy(model), train, valid, SETTINGS),
        lambda: bare_loop(copy.deepcopy(model), train),
        CPU,
        pairs=7,
        warm_up=1,
    )
    row = {
        "training node s": timing.ours,
        "bare loop s": timing.opponent,
        "slower by": 1 / timing.ratio - 1,
        "from": 1 / timing.highest - 1,
        "to": 1 / timing.lowest - 1,
        "pairs": timing.pairs,
    }
    report("node_overhead", CPU, [row])


if __name__ == "__main__":
    main()

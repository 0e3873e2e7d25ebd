from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_ctr_pipeline.training.checkpoint import load_checkpoint

MODELS = Path("data/06_models/single_phase")


def test_a_trained_model_is_written_for_other_tools_beside_its_checkpoint(
    trained_project: Path, run_here: Callable[..., None]
) -> None:
    models = trained_project / MODELS
    model = load_checkpoint(models / "best_model").build()
    run_here(trained_project, "export")
    ids_BF = torch.ones(3, len(model.field_sizes), dtype=torch.int64)
    scorer = torch.export.load(models / "export/torch/scorer.pt2").module()
    with torch.inference_mode():
        found_B, expected_B = scorer(ids_BF)["probability"], torch.sigmoid(model(ids_BF))
    torch.testing.assert_close(found_B, expected_B, rtol=0, atol=1e-5)
    run_here(trained_project, "export", params={"export": {"to": "huggingface"}})
    folder = models / "export/huggingface"
    causal_lm = AutoModelForCausalLM.from_pretrained(folder)
    used = list(model.llm.tokens.used)
    rows = model.llm.backbone.get_input_embeddings().weight
    assert torch.equal(causal_lm.get_input_embeddings().weight[used], rows)
    assert AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(["0", "1"]) == list(
        model.llm.tokens.answers
    )
    assert load_checkpoint(models / "best_model")  # nothing of the exports is in its folder

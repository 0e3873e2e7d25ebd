import pytest
import torch
from torch.nn import functional

from llm_ctr_pipeline.models.baselines.logistic_regression import LogisticRegression
from llm_ctr_pipeline.models.settings import LogisticRegressionSettings


def test_the_model_by_hand() -> None:
    """Two fields of 2 and 3 ids: ids (1, 2) weigh 0.5 and −2, the bias is 0.25."""
    model = LogisticRegression(LogisticRegressionSettings(), (2, 3))
    table = torch.tensor([[9.0], [0.5], [9], [9], [-2]])
    model.load_state_dict({"linear.table.weight": table, "bias": torch.tensor(0.25)})
    assert model(torch.tensor([[1, 2]])).tolist() == pytest.approx([0.5 - 2 + 0.25])


def test_it_learns_the_click_rate_of_each_id() -> None:
    """With one field the optimum is known: the log-odds of each id's own click rate."""
    ids_BF = torch.tensor([[0]] * 4 + [[1]] * 10)
    labels_B = torch.tensor([1.0, 0, 0, 0] + [1.0] * 9 + [0])
    model = LogisticRegression(LogisticRegressionSettings(), (2,))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.binary_cross_entropy_with_logits(model(ids_BF), labels_B)
        value.backward()
        return value

    optimizer.step(loss)
    rates = torch.sigmoid(model(torch.tensor([[0], [1]]))).tolist()
    assert rates == pytest.approx([0.25, 0.9], abs=1e-3)


def test_an_id_that_training_never_met_says_nothing() -> None:
    model = LogisticRegression(LogisticRegressionSettings(), (4, 4))
    assert model(torch.tensor([[0, 1], [2, 3]])).tolist() == [0.0, 0.0]

"""The hidden layers of a deep network.

Shape legend: B rows, I inputs, K width of the last layer.
"""

from collections.abc import Sequence

from torch import Tensor, nn


class Mlp(nn.Module):
    """Linear → ReLU (→ dropout), once for each hidden layer; the output layer is the caller's.

    Weights start from Glorot's normal distribution, biases from zero.

    Args:
        input_dim: Number of inputs I.
        hidden_sizes: Widths of the hidden layers, the last of them K.
        dropout: Share of activations dropped in training.
    """

    def __init__(self, input_dim: int, hidden_sizes: Sequence[int], dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((input_dim, *hidden_sizes), hidden_sizes, strict=False):
            linear = nn.Linear(inputs, outputs)
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
            # In place: the backward pass of ReLU needs its output alone.
            layers += [linear, nn.ReLU(inplace=True)]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs_BI: Tensor) -> Tensor:
        """Last hidden activations, float `[B, K]`, from inputs, float `[B, I]`."""
        hidden_BK: Tensor = self.layers(inputs_BI)
        return hidden_BK

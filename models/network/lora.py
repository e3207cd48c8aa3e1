"""Low-rank adaptation (Hu et al. 2021): the matrices stay, a product of two thin ones is learned beside each
and added in at the end."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.network.decoder import Layer, Network


class LowRank(nn.Module):
    """A linear layer without bias and its learned difference, (out, rank) @ (rank, in); it starts at zero."""

    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), scale
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    @property
    def weight(self) -> Tensor:
        """Of the plain layer that this one stands for, (out, in)."""
        return self.base.weight + self.up @ self.down * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


def add_low_rank(network: Network, rank: int, scale: float = 2.0) -> None:
    """Freeze a network but for norms and the rows of its tokens, and put a LowRank in the place of every
    linear layer."""
    for part in (network.model.embed_places, network.model.copies):
        part.requires_grad_(False)
    for parameter in network.model.layers.parameters():
        parameter.requires_grad_(parameter.ndim == 1)
    for layer in network.model.layers:
        assert isinstance(layer, Layer)
        for block in (layer.self_attn, layer.mlp):
            for name, module in list(block.named_children()):
                if isinstance(module, nn.Linear):
                    setattr(block, name, LowRank(module, rank, scale))


def merged(weights: dict[str, Tensor], scale: float = 2.0) -> dict[str, Tensor]:
    """State dict of the plain network: each difference added to its matrix."""
    plain: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name.endswith(".base.weight"):
            stem = name.removesuffix(".base.weight")
            plain[f"{stem}.weight"] = value + weights[f"{stem}.up"] @ weights[f"{stem}.down"] * scale
        elif not name.endswith((".up", ".down")):
            plain[name] = value
    return plain

"""Muon for the matrices inside the layers, AdamW for the embedding and the norms, as one optimiser.

Muon (Jordan et al. 2024) orthogonalises the momentum of each matrix; docs/decisions/0004-optimiser.md has it
beside AdamW at equal steps. Lightning and checkpoints see a single optimiser.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class MuonAdamW(torch.optim.Optimizer):
    """Both optimisers behind one `step`. Each group remembers its peak rate in `peak`; the schedule scales
    both alike."""

    def __init__(
        self, network: nn.Module, *, matrix_rate: float, rate: float, weight_decay: float, thin: bool = False
    ) -> None:
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        inside = [
            p for name, p in named if p.ndim == 2 and "embed" not in name and not thin
        ]  # thin: low-rank pairs, which Muon does not fit
        outside = [p for name, p in named if p.ndim != 2 or "embed" in name or thin]
        adamw = torch.optim.AdamW(outside, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        self._parts: dict[str, torch.optim.Optimizer] = {"adamw": adamw}
        if inside:
            self._parts["muon"] = torch.optim.Muon(
                inside, lr=matrix_rate, weight_decay=weight_decay, momentum=0.95
            )
        super().__init__([*inside, *outside], {})
        self._share_groups()

    def _share_groups(self) -> None:
        self.param_groups = [group for part in self._parts.values() for group in part.param_groups]
        for group in self.param_groups:
            group.setdefault("peak", group["lr"])

    def scale_rates(self, factor: float) -> None:
        """Set every group's rate to `factor` times its peak."""
        for group in self.param_groups:
            group["lr"] = group["peak"] * factor

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts.values():
            part.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self._parts.values():
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, part in self._parts.items():
            part.load_state_dict(state_dict[name])
        self._share_groups()

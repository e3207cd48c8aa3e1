"""Short trainings of the starter network that differ in one thing: what the comparisons of knobs, formats and
optimisers share."""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.network.decoder import Network
from models.network.optimizer import MuonAdamW
from models.network.training import IGNORED, best_precision, learning_rate_factor

BATCH, WARMUP, MATRIX_RATE, RATE, DECAY, CLIP = 8, 0.05, 0.02, 0.003, 0.1, 1.0  # the starter profile's
Optimiser = Callable[[Network], torch.optim.Optimizer]


def muon(network: Network) -> torch.optim.Optimizer:
    return MuonAdamW(network, matrix_rate=MATRIX_RATE, rate=RATE, weight_decay=DECAY)


def train(
    network: Network,
    data: Dataset[tuple[Tensor, Tensor]],
    steps: int,
    optimiser_of: Optimiser = muon,
    scale: float = 1.0,
) -> float:
    """Train in place for `steps` batches of `data`; `scale`: of the learning rates. Returns seconds a
    step."""
    optimiser = optimiser_of(network)
    peaks = [group["lr"] * scale for group in optimiser.param_groups]
    bf16 = best_precision() == "bf16-mixed"
    network.train()
    begin = time.perf_counter()
    for step in range(steps):
        for group, peak in zip(optimiser.param_groups, peaks, strict=True):
            group["lr"] = peak * learning_rate_factor(step / steps, WARMUP)
        batch = [data[step * BATCH + i] for i in range(BATCH)]
        rows, scored = torch.stack([row for row, _ in batch]), torch.stack([mine for _, mine in batch])[:, 1:]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = network.loss(rows[:, :-1], torch.where(scored, rows[:, 1:, 0].long(), IGNORED), IGNORED)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimiser.step()
        optimiser.zero_grad()
    network.eval()
    return (time.perf_counter() - begin) / steps

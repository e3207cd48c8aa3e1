"""Training and exact evaluation of the grid network."""

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.jsb_grid import Piece
from benchmarks.jsb_model import GridNetwork, Shape, collate
from models.network.optimizer import MuonAdamW

BATCH = 8  # pieces
CHUNK = 64  # pieces sorted by length together, so that batches hold little padding
KEYS = tuple(
    range(-6, 6)
    # transpositions, semitones: drawn from in training, all twelve mixed in evaluation; 0 is the piece as
    # written
)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. Rates are peaks of a cosine to zero that ends with the minutes or the epochs,
    whichever come first."""

    minutes: float
    epochs: float
    matrix_rate: float = 0.01
    rate: float = 0.002
    weight_decay: float = 0.1
    warmup: float = 0.03  # share of the run
    average: float = 0.998  # decay of the moving average of the weights, which is what is evaluated
    clip: float = 1.0


def batches(pieces: Sequence[Piece], rng: np.random.Generator) -> Iterator[list[Piece]]:
    """An epoch in random order, neighbours in length together."""
    order = rng.permutation(len(pieces))
    groups: list[list[Piece]] = []
    for start in range(0, len(order), CHUNK):
        chunk = sorted((pieces[i] for i in order[start : start + CHUNK]), key=lambda piece: len(piece.grid))
        groups += [chunk[i : i + BATCH] for i in range(0, len(chunk), BATCH)]
    for i in rng.permutation(len(groups)):
        yield groups[i]


def train(
    pieces: Sequence[Piece],
    recipe: Recipe,
    seed: int,
    shape: Shape | None = None,
    start: GridNetwork | None = None,
) -> GridNetwork:
    """A trained network; `start` is gone on from."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = GridNetwork(shape or Shape()) if start is None else copy.deepcopy(start)
    mean = copy.deepcopy(network).eval()
    optimiser = MuonAdamW(
        network, matrix_rate=recipe.matrix_rate, rate=recipe.rate, weight_decay=recipe.weight_decay
    )
    steps_per_epoch, begun, step = math.ceil(len(pieces) / BATCH), time.monotonic(), 0
    while True:
        for batch in batches(pieces, rng):
            done = max(
                step / (recipe.epochs * steps_per_epoch), (time.monotonic() - begun) / 60 / recipe.minutes
            )
            if done >= 1:
                print(
                    (
                        f"seed {seed}: {step} steps, {step / steps_per_epoch:.1f} epochs, "
                        f"{(time.monotonic() - begun) / 60:.1f} minutes"
                    ),
                    flush=True,
                )
                return mean
            optimiser.scale_rates(min(1.0, done / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * done)))
            loss = _loss(network.train(), batch, rng)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            optimiser.step()
            step += 1
            _blend(mean, network, min(recipe.average, (step + 1) / (step + 10)))


def _loss(network: GridNetwork, pieces: list[Piece], rng: np.random.Generator) -> Tensor:
    """Mean nats of a slot, each piece in a random key."""
    batch = collate(pieces, [int(key) for key in rng.choice(KEYS, len(pieces))])
    with torch.autocast("cpu", torch.bfloat16):
        return network.losses(batch).sum() / batch.counted.sum()


@torch.no_grad()
def _blend(mean: GridNetwork, network: GridNetwork, decay: float) -> None:
    torch._foreach_lerp_(list(mean.parameters()), list(network.parameters()), 1 - decay)


@torch.no_grad()
def nats_by_key(network: GridNetwork, pieces: Sequence[Piece], keys: Sequence[int] = KEYS) -> list[Tensor]:
    """Nats of each slot with the piece read in each key, float64 (keys, T, 4) for each piece."""
    network.eval()
    order = sorted(range(len(pieces)), key=lambda i: len(pieces[i].grid))
    found: dict[int, Tensor] = {}
    for start in range(0, len(order), BATCH):
        group = [pieces[i] for i in order[start : start + BATCH]]
        with torch.autocast("cpu", torch.bfloat16):
            nats = torch.stack([network.losses(collate(group, [key] * len(group))) for key in keys])
        for b, i in enumerate(order[start : start + BATCH]):
            found[i] = nats[:, b, : len(pieces[i].grid)].double()
    return [found[i] for i in range(len(pieces))]


def mixed(nats: Tensor) -> Tensor:
    """Nats (T, 4) of the even mixture of distributions (K, T, 4): the mean of the probabilities of each
    slot."""
    return math.log(len(nats)) - torch.logsumexp(-nats, dim=0)


def per_slot(nats: Sequence[Tensor]) -> float:
    """Total nats / (steps * 4), over pieces of (T, 4)."""
    return sum(float(x.sum()) for x in nats) / sum(x.numel() for x in nats)

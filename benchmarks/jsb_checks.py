"""What must hold before a JSB figure is believed; each check prints its reading and stops the run where it
fails. All in float32."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.jsb_grid import HIGHEST, LOWEST, ORDER, VOCABULARY, Past, Piece, piece_of
from benchmarks.jsb_model import GridNetwork, Shape, collate
from benchmarks.jsb_training import KEYS, mixed, nats_by_key, per_slot

PITCHES = torch.arange(LOWEST - 6, HIGHEST + 7)  # every pitch that some key of the mixture can name


@torch.no_grad()
def run(network: GridNetwork, pieces: Sequence[Piece], past: Past) -> None:
    """All checks, on valid pieces."""
    network.eval()
    untrained(pieces[:8])
    shuffled(network, pieces[:8], past)
    causal(network, pieces[0], past)
    sums_to_one(network, pieces[0])
    padding(network, pieces)


def untrained(pieces: Sequence[Piece]) -> None:
    """An untrained network reads ln of the vocabulary."""
    found = per_slot([nats[0] for nats in nats_by_key(GridNetwork(Shape()), pieces, keys=(0,))])
    print(f"check: untrained {found:.4f} nats per slot, ln {VOCABULARY} = {math.log(VOCABULARY):.4f}")
    assert abs(found - math.log(VOCABULARY)) < 0.01


def shuffled(network: GridNetwork, pieces: Sequence[Piece], past: Past) -> None:
    """Steps in random order are far less likely."""
    rng = np.random.default_rng(0)
    mixed_up = [piece_of(rng.permutation(piece.grid), past) for piece in pieces]
    true, false = (
        per_slot([nats[0] for nats in nats_by_key(network, some, keys=(0,))]) for some in (pieces, mixed_up)
    )
    print(f"check: {true:.3f} nats per slot, with shuffled steps {false:.3f}")
    assert false > 4 * true


def causal(network: GridNetwork, piece: Piece, past: Past) -> None:
    """Neither later steps nor voices later in the order change a conditional: all after (step, place) is
    replaced, features made anew."""
    rng = np.random.default_rng(0)
    before = after = 0.0
    for step, place in itertools.product((1, len(piece.grid) // 3, len(piece.grid) // 2), range(4)):
        other = piece.grid.copy()
        other[step + 1 :] = rng.integers(48, 70, other[step + 1 :].shape)
        other[step, list(ORDER[place:])] = rng.integers(48, 70, 4 - place)
        a, b = (
            network(collate([some], [0]))[0].log_softmax(-1) for some in (piece, piece_of(other, past))
        )  # (T, 4, V)
        change = (a - b).abs()
        before = max(before, float(change[:step].max()), float(change[step, list(ORDER[: place + 1])].max()))
        after = max(after, float(change[step + 1].max()))
    print(
        f"check: when all after a note changes, log probabilities up to it change by "
        f"{before:.1e} at most, those of the next step by {after:.1f}"
    )
    assert before < 1e-3 and after > 0.1


def sums_to_one(network: GridNetwork, piece: Piece) -> None:
    """The mixture over keys is one distribution over pitches and the rest, and gives the targets what the
    evaluation says."""
    per_key = torch.stack([by_pitch(network, piece, key) for key in KEYS])  # (keys, T, 4, pitches + 1)
    mixture = per_key.mean(dim=0)
    total = mixture.sum(dim=-1)
    target = torch.from_numpy(np.where(piece.grid >= 0, piece.grid - int(PITCHES[0]) + 1, 0))
    said = mixed(torch.stack([-p.gather(-1, target[..., None])[..., 0].log() for p in per_key]))
    direct = -mixture.gather(-1, target[..., None])[..., 0].log()
    evaluated = mixed(nats_by_key(network, [piece])[0])
    print(
        f"check: sums of the mixture lie in {float(total.min()):.6f} to "
        f"{float(total.max()):.6f}; nats per slot {float(direct.mean()):.4f} by it, "
        f"{float(evaluated.mean()):.4f} by the evaluation (bfloat16)"
    )
    assert torch.allclose(total, torch.ones_like(total), atol=1e-5) and torch.allclose(
        said, direct, atol=1e-6
    )
    assert abs(float(direct.mean() - evaluated.mean())) < 0.01


def by_pitch(network: GridNetwork, piece: Piece, key: int) -> Tensor:
    """Probabilities (T, 4, pitches + 1) of a rest and of PITCHES as written, from the piece read in a key."""
    found = network(collate([piece], [key]))[0].double().softmax(-1)  # (T, 4, V)
    probability = torch.zeros(len(piece.grid), 4, len(PITCHES) + 1, dtype=torch.float64)
    start = LOWEST - key - int(PITCHES[0]) + 1
    probability[..., 0], probability[..., start : start + VOCABULARY - 1] = found[..., 0], found[..., 1:]
    return probability


def padding(network: GridNetwork, pieces: Sequence[Piece]) -> None:
    """A piece's nats do not depend on what it is batched with."""
    short, long = (
        min(pieces, key=lambda piece: len(piece.grid)),
        max(pieces, key=lambda piece: len(piece.grid)),
    )
    n = len(short.grid)
    alone, together = (
        network.losses(collate(some, [0] * len(some)))[0, :n] for some in ([short], [short, long])
    )
    change = float((alone - together).abs().max())
    print(f"check: largest change of a slot's nats by padding {n} steps to {len(long.grid)}: {change:.1e}")
    assert change < 1e-3

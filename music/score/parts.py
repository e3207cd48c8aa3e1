"""Parts: how low and high a track lies, and whether it is one line, in which no two notes sound at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# of the lowest and of the highest notes of parts: an instrument ends the low ones, a player the high ones
QUANTILES = (0.01, 0.9)
MOST_OVERLAPPING = (
    0.01  # share of notes that begin before the one before has ended, up to which a part is one line
)
MOSTLY = 0.9  # share of parts that are one line, from which on an instrument is taken to be


@dataclass(frozen=True)
class Part:
    """Lowest and highest MIDI pitch, whether the part is one line, and how many notes it has."""

    low: int
    high: int
    one_line: bool
    notes: int = 0


def part_of(notes: np.ndarray) -> Part:
    """Of notes int64 (n, 3), onset, duration, pitch, sorted by onset. Raises ValueError where there are
    none."""
    if not len(notes):
        raise ValueError("a part without notes has no compass")
    ends = np.maximum.accumulate(notes[:, 0] + notes[:, 1])
    overlapping = float((notes[1:, 0] < ends[:-1]).mean()) if len(notes) > 1 else 0.0
    return Part(int(notes[:, 2].min()), int(notes[:, 2].max()), overlapping <= MOST_OVERLAPPING, len(notes))


def usual(parts: Sequence[Part]) -> Part:
    """What most of some parts keep to."""
    low, high = QUANTILES
    return Part(
        int(np.quantile([part.low for part in parts], low, method="lower")),
        int(np.quantile([part.high for part in parts], high, method="higher")),
        float(np.mean([part.one_line for part in parts])) >= MOSTLY,
        sum(part.notes for part in parts),
    )

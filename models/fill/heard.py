"""Bars of a region as they are written, for who listens while the rest is still to come."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.fill.region import Region
from models.tokens.tokenizer import CellTokenizer
from music.score.instruments import DRUMS


@dataclass(frozen=True)
class BarHeard:
    """One bar of what is written: its number in the piece, and notes (track, start, length, pitch), start and
    length in quarters, start from the barline. All count from 0."""

    bar: int
    notes: list[tuple[int, float, float, int]]


def hearing(
    region: Region, tokenizer: CellTokenizer, tell: Callable[[BarHeard], None]
) -> Callable[[Sequence[int]], None]:
    """What a job calls when a bar of it has ended: every bar is told once, in order."""
    request = region.request
    places = request.tracks or range(len(request.plan.programs))
    told = 0

    def hear(written: Sequence[int]) -> None:
        nonlocal told
        at = [i for i, token in enumerate(written) if tokenizer.is_bar(token)]
        if written[-1] == tokenizer.eos_id:
            at.append(len(written) - 1)
        while told < len(at) - 1:
            bar = request.bars[0] + told
            start, end = int(region.starts[bar]), int(region.starts[bar + 1])
            notes = []
            for k, cell in enumerate(region.cells_of(written[at[told] + 1 : at[told + 1]])):
                if request.missing[bar, k]:
                    found = tokenizer.cell_notes(cell, start, end, request.plan.programs[k] == DRUMS)
                    quarters = (found[:, :2] - np.array([start, 0])) / tokenizer.ticks_per_quarter
                    pitches = found[:, 2].tolist()
                    notes += [(places[k], *q, p) for q, p in zip(quarters.tolist(), pitches, strict=True)]
            tell(BarHeard(request.first_bar + bar, notes))
            told += 1

    return hear

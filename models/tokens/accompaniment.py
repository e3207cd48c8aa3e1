"""Melodies with a chord track beside them, made of what there is: a piece's first track, and block chords of
the chords that its notes are found to make or imply. Files of this kind are common among users and rare in
corpora."""

from dataclasses import dataclass

import numpy as np

from models.tokens.layout import Grid
from models.tokens.shards import Shard
from models.tokens.tokenizer import CellTokenizer
from music.score.chords import NO_CHORD, QUALITIES
from music.score.instruments import DRUMS

LOWEST = 43  # MIDI pitch from which chords are built up: G2, as accompaniments lie
STEPS = tuple(QUALITIES.values())


@dataclass(frozen=True)
class Accompaniment:
    """What a chord track is written with: its Program token."""

    tokenizer: CellTokenizer
    program: int

    @classmethod
    def of(cls, tokenizer: CellTokenizer) -> "Accompaniment":
        """The pitched program whose part lies nearest to where chords do, among those that go low enough."""
        pitched = [p for p in tokenizer.programs if p != DRUMS]
        low = [p for p in pitched if p in tokenizer.parts and tokenizer.parts[p].low <= LOWEST] or pitched
        heard = {p: tokenizer.parts[p].notes if p in tokenizer.parts else 0 for p in low}
        return cls(tokenizer, tokenizer.id_of("Program", max(low, key=lambda p: (heard[p], -p))))

    def beside(self, grid: Grid, shard: Shard, i: int, bars: tuple[int, int], shift: int) -> Grid:
        """The first track of bars [first, last) of a piece and its chords. `shift`: semitones by which tokens
        are moved afterwards, so that chords lie where they are meant to after it."""
        starts = shard.bar_starts(i)
        metres = np.asarray(shard.piece(i))[starts].astype(np.int64) - self.tokenizer.first_id["Bar"]
        ticks = np.concatenate([[0], np.cumsum(self.tokenizer.bar_lengths[metres])])
        chords = shard.chords(i)
        cells: list[list[np.ndarray | None]] = []
        for row, b in zip(grid.cells, range(*bars), strict=True):
            mine = chords[(chords[:, 0] >= ticks[b]) & (chords[:, 0] < ticks[b + 1])]
            notes = _blocks(mine, shift)
            cells.append(
                [row[0], np.array(self.tokenizer.cell_tokens(notes, int(ticks[b]), False), dtype=np.int64)]
            )
        return Grid(grid.bars, [grid.programs[0], self.program], cells)


def _blocks(chords: np.ndarray, shift: int) -> np.ndarray:
    """Notes (n, 3) of one bar's chords by beat (m, 5), each held until it changes."""
    notes: list[tuple[int, int, int]] = []
    first = 0
    for n in range(1, len(chords) + 1):
        if n < len(chords) and (chords[n, 2:4] == chords[first, 2:4]).all():
            continue
        root, quality = (int(x) for x in chords[first, 2:4])
        if root != NO_CHORD:
            start, end = int(chords[first, 0]), int(chords[n - 1, :2].sum())
            base = LOWEST + (root + shift - LOWEST) % 12 - shift
            notes += [(start, end - start, base + step) for step in STEPS[quality]]
        first = n
    return np.array(sorted(notes), dtype=np.int64).reshape(-1, 3)

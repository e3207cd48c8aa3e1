"""Voice leading while writing: which pitches would make parallel fifths or octaves with another track, from
what stands so far."""

from collections.abc import Sequence

import numpy as np

from music.analysis.voices import SILENT, parallel_pitches, put_in_grid


class Leading:
    """The voice grid (music/analysis/voices.py) of a score that is being written: what is kept, and every
    note as it comes."""

    def __init__(self, kept: Sequence[np.ndarray], end_abs: int, ticks: int, pitched: Sequence[int]) -> None:
        """kept: notes (n, 3) of each track that stay; ticks: of a step; pitched: the tracks that lead, all
        but drums."""
        self._ticks, self._pitched = ticks, tuple(pitched)
        self._grid = np.full((-(-end_abs // ticks), len(kept)), SILENT, dtype=np.int64)
        for track in self._pitched:
            for onset, duration, pitch in kept[track].tolist():
                self.note(track, onset, onset + duration, pitch)

    def note(self, track: int, onset_abs: int, end_abs: int, pitch: int) -> None:
        """A note is written."""
        if track in self._pitched:
            put_in_grid(self._grid, self._ticks, track, onset_abs, end_abs, pitch)

    def wrong(self, track: int, onset_abs: int, end_abs: int) -> list[int]:
        """Pitches that would make a parallel on the way into a note, or out of it to what stands after it."""
        first, last = -(-onset_abs // self._ticks), -(-end_abs // self._ticks)
        if track not in self._pitched or first >= last:
            return []
        others = [k for k in self._pitched if k != track]
        into = parallel_pitches(self._grid, first, track, others)
        out = (
            parallel_pitches(self._grid[::-1], len(self._grid) - last, track, others)
            if last < len(self._grid)
            else {}
        )  # backwards a parallel is one too
        return [*into, *out]

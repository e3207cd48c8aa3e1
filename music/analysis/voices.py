"""Voice leading of four-part writing: chords beat by beat, parallel fifths and octaves, crossings, and notes
out of compass.

Voices are tracks from the highest (soprano) to the lowest (bass), each with the top note of what it sounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from symusic import Score

from music.score.form import end_tick, note_array

SILENT = -1
COMPASS = (
    (60, 81),
    (53, 74),
    (48, 69),
    (40, 64),
)  # soprano, alto, tenor, bass; MIDI pitches, as chorales use them
TRIADS = {"major": (0, 4, 7), "minor": (0, 3, 7), "diminished": (0, 3, 6)}


def voice_grid(score: Score, ticks: int) -> np.ndarray:
    """Pitch of every voice every `ticks` ticks, int64 (steps, voices); SILENT where none sounds."""
    grid = np.full((-(-end_tick(score) // ticks), len(score.tracks)), SILENT, dtype=np.int64)
    for voice, track in enumerate(score.tracks):
        for onset, duration, pitch in note_array(track).tolist():
            put_in_grid(grid, ticks, voice, onset, onset + duration, pitch)
    return grid


def put_in_grid(grid: np.ndarray, ticks: int, voice: int, onset: int, end: int, pitch: int) -> None:
    """One note more in a voice grid. A note that sounds at no step leaves no trace."""
    first, last = -(-onset // ticks), -(-end // ticks)
    grid[first:last, voice] = np.maximum(grid[first:last, voice], pitch)


def chord_of(pitches: np.ndarray) -> tuple[int, str] | None:
    """Root (pitch class) and kind of the triad that holds most of some pitches; None where fewer than two
    pitch classes sound."""
    sounding = pitches[pitches != SILENT]
    classes = np.unique(sounding % 12)
    if len(classes) < 2:
        return None
    bass = int(sounding.min()) % 12
    return max(
        ((root, kind) for root in range(12) for kind in TRIADS),
        key=lambda chord: (sum((pc - chord[0]) % 12 in TRIADS[chord[1]] for pc in classes), chord[0] == bass),
    )


@dataclass(frozen=True)
class VoiceLeading:
    """Counts over a piece. moves: pairs of voices that both move from one step to the next."""

    moves: int
    parallel_fifths: int
    parallel_octaves: int
    steps: int
    crossings: int
    out_of_compass: int
    notes: int

    def __add__(self, other: "VoiceLeading") -> "VoiceLeading":
        return VoiceLeading(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Parallel:
    """Two voices that move from one perfect fifth (octave, unison) to another. step: of the grid, to which
    they move."""

    step: int
    high: int
    low: int
    octave: bool


def parallels(grid: np.ndarray) -> list[Parallel]:
    """Every parallel fifth and octave of a voice grid (steps, voices)."""
    found = []
    for high, low, move, interval in _pairs(grid):
        for octave, size in ((False, 7), (True, 0)):
            hit = np.flatnonzero(move & (interval[1:] == size) & (interval[:-1] == size)) + 1
            found += [Parallel(step, high, low, octave) for step in hit.tolist()]
    return found


def parallel_pitches(grid: np.ndarray, step: int, voice: int, others: Sequence[int]) -> dict[int, int]:
    """Pitches with which a voice, moving to `step` of a voice grid, would make parallel fifths or octaves
    with `others`: {pitch: how many}."""
    found: dict[int, int] = {}
    before = int(grid[step - 1, voice]) if step else SILENT
    for other in others:
        then, now = (int(grid[step - 1, other]), int(grid[step, other])) if step else (SILENT, SILENT)
        if SILENT in (before, then, now) or then == now or (size := abs(then - before) % 12) not in (0, 7):
            continue
        for pitch in range(128):
            if pitch != before and abs(now - pitch) % 12 == size:
                found[pitch] = found.get(pitch, 0) + 1
    return found


def _pairs(grid: np.ndarray) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """(high voice, low voice, steps at which both move on, interval mod 12 of each step) of every two
    voices."""
    rows = []
    for high in range(grid.shape[1]):
        for low in range(high + 1, grid.shape[1]):
            a, b = grid[:, high], grid[:, low]
            both = (a != SILENT) & (b != SILENT)
            rows.append(
                (high, low, both[1:] & both[:-1] & (a[1:] != a[:-1]) & (b[1:] != b[:-1]), np.abs(a - b) % 12)
            )
    return rows


def voice_leading(score: Score, ticks: int) -> VoiceLeading:
    """Voice leading of a score of four voices, looked at every `ticks` ticks. A parallel: a perfect fifth
    (octave, unison) between two voices that both move on to another."""
    grid = voice_grid(score, ticks)
    found = parallels(grid)
    octaves = sum(each.octave for each in found)
    moves = sum(int(move.sum()) for _, _, move, _ in _pairs(grid))
    above, below = grid[:, :-1], grid[:, 1:]
    crossings = int(((above != SILENT) & (below != SILENT) & (above < below)).sum())
    notes = [note_array(track)[:, 2] for track in score.tracks]
    out = sum(
        int(((pitch < low) | (pitch > high)).sum())
        for pitch, (low, high) in zip(notes, COMPASS, strict=False)
    )
    return VoiceLeading(
        moves, len(found) - octaves, octaves, len(grid), crossings, out, sum(len(pitch) for pitch in notes)
    )

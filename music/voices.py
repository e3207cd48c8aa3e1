"""Voice leading of four-part writing: chords beat by beat, parallel fifths and octaves, crossings, and notes out of compass.

Voices are tracks from the highest (soprano) to the lowest (bass), each with the top note of what it sounds.
"""

from dataclasses import dataclass

import numpy as np
from symusic import Score

from music.score import end_tick, note_array

SILENT = -1
COMPASS = ((60, 81), (53, 74), (48, 69), (40, 64))  # soprano, alto, tenor, bass; MIDI pitches, as chorales use them
TRIADS = {"major": (0, 4, 7), "minor": (0, 3, 7), "diminished": (0, 3, 6)}


def voice_grid(score: Score, ticks: int) -> np.ndarray:
    """Pitch of every voice every `ticks` ticks, int64 (steps, voices); SILENT where none sounds."""
    grid = np.full((-(-end_tick(score) // ticks), len(score.tracks)), SILENT, dtype=np.int64)
    for voice, track in enumerate(score.tracks):
        for onset, duration, pitch in note_array(track).tolist():
            first, last = -(-onset // ticks), -(-(onset + duration) // ticks)
            grid[first:last, voice] = np.maximum(grid[first:last, voice], pitch)
    return grid


def chord_of(pitches: np.ndarray) -> tuple[int, str] | None:
    """Root (pitch class) and kind of the triad that holds most of some pitches; None where fewer than two pitch classes sound."""
    sounding = pitches[pitches != SILENT]
    classes = np.unique(sounding % 12)
    if len(classes) < 2:
        return None
    bass = int(sounding.min()) % 12
    return max(((root, kind) for root in range(12) for kind in TRIADS), key=lambda chord: (sum((pc - chord[0]) % 12 in TRIADS[chord[1]] for pc in classes), chord[0] == bass))


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


def voice_leading(score: Score, ticks: int) -> VoiceLeading:
    """Voice leading of a score of four voices, looked at every `ticks` ticks. A parallel: a perfect fifth (octave, unison) between two voices that both move on to another."""
    grid = voice_grid(score, ticks)
    moves = fifths = octaves = crossings = 0
    voices = grid.shape[1]
    for high in range(voices):
        for low in range(high + 1, voices):
            a, b = grid[:, high], grid[:, low]
            both = (a != SILENT) & (b != SILENT)
            crossings += int((both & (a < b)).sum()) if low == high + 1 else 0
            move = both[1:] & both[:-1] & (a[1:] != a[:-1]) & (b[1:] != b[:-1])
            moves += int(move.sum())
            interval = np.abs(a - b) % 12
            fifths += int((move & (interval[1:] == 7) & (interval[:-1] == 7)).sum())
            octaves += int((move & (interval[1:] == 0) & (interval[:-1] == 0)).sum())
    notes = [note_array(track)[:, 2] for track in score.tracks]
    out = sum(int(((pitch < low) | (pitch > high)).sum()) for pitch, (low, high) in zip(notes, COMPASS, strict=False))
    return VoiceLeading(moves, fifths, octaves, len(grid), crossings, out, sum(len(pitch) for pitch in notes))

"""How loud composed notes are played: a plain rule, not a performance.

A note on a barline is louder than one on the middle of the bar, that than one on another beat, that than one
off the beat (metrical accents; Lerdahl & Jackendoff 1983); and phrases of four bars swell to their middle and
fall again (the phrase arch of Friberg 1991, in loudness alone). All tracks follow the same rule: what sounds
together is equally loud.
"""

from typing import Literal

import numpy as np
from symusic import Score

from music.analysis.chords import beats_of
from music.score.form import VELOCITY, as_notes, bar_table, note_array

Dynamics = Literal["plain", "off"]

ON_BEAT = (10, 5, 0)  # on a barline, on the middle of the bar, on another beat
HALF_BEAT, ELSEWHERE = -6, -9  # on a half or a third of a beat, between those
ARCH = 8  # how much louder the middle of a phrase is than its ends
PHRASE = 4  # bars


def with_dynamics(score: Score, velocity: int = VELOCITY) -> Score:
    """The score in normal form with the rule's velocities around `velocity`; nothing else changes."""
    beats, bars = beats_of(score), bar_table(score)
    loud = score.copy()
    for track in loud.tracks:
        notes = note_array(track)
        if len(notes):
            level = velocity + _accents(notes[:, 0], beats) + _arch(notes[:, 0], bars, _upbeat(score, bars))
            track.notes = as_notes(np.column_stack([notes, np.clip(np.rint(level), 1, 127)]).astype(np.int64))
    return loud


def _accents(onsets: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Of onsets, ticks (n,)."""
    at = np.searchsorted(beats[:, 0], onsets, side="right") - 1
    into, length = onsets - beats[at, 0], beats[at, 1]
    even = (into * 2 % length == 0) | (into * 3 % length == 0)
    return np.where(into == 0, np.array(ON_BEAT)[beats[at, 2]], np.where(even, HALF_BEAT, ELSEWHERE))


def _arch(onsets: np.ndarray, bars: np.ndarray, first: int) -> np.ndarray:
    """Between 0 at the ends of phrases and ARCH in their middle; phrases begin at bar `first`."""
    starts = bars[first::PHRASE, 0]
    ends = np.append(starts[1:], bars[-1, :2].sum())
    at = np.maximum(np.searchsorted(starts, onsets, side="right") - 1, 0)
    through = np.clip((onsets - starts[at]) / (ends[at] - starts[at]), 0, 1)
    return ARCH * np.sin(np.pi * through)


def _upbeat(score: Score, bars: np.ndarray) -> int:
    """1 where the first bar is silent for at least its first half, else 0."""
    first = min(int(note_array(track)[0, 0]) for track in score.tracks if len(track.notes))
    return int(len(bars) > 1 and 2 * first >= bars[0, 1])

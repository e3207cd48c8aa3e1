"""Harmony: how many beats sound a chord, how a piece closes, and whose roots two pieces share."""

from dataclasses import dataclass

import numpy as np
from symusic import Score

from music.analysis.chords import beats_of, chords_of
from music.score.chords import NAMES, NO_CHORD, QUALITIES
from music.score.form import note_array
from music.score.keys import key_index

VOICES = 3  # tracks from which on a piece has chords to end on
FOURTHS = ("sus4",)  # no third: not counted as a triad
_CHORDS = [
    (frozenset((root + step) % 12 for step in steps), root, (root + steps[1]) % 12)
    for name, steps in QUALITIES.items()
    if name not in FOURTHS
    for root in range(12)
]


@dataclass(frozen=True)
class Harmony:
    """Shares of beats on which something of several voices sounds. chords: a triad or a seventh chord with
    its root and third; foreign: what sounds together lies in no such chord."""

    chords: float
    foreign: float
    beats: int


def sounding_on_beats(score: Score) -> list[frozenset[int]]:
    """Pitch classes that sound at the start of each beat."""
    notes = [note_array(track) for track in score.tracks if not track.is_drum and len(track.notes)]
    together = np.concatenate(notes) if notes else np.zeros((0, 3), dtype=np.int64)
    ends = together[:, 0] + together[:, 1]
    return [
        frozenset((together[(together[:, 0] <= tick) & (ends > tick), 2] % 12).tolist())
        for tick in beats_of(score)[:, 0].tolist()
    ]


def harmony(score: Score) -> Harmony:
    """Of a score of several voices; beats on which one pitch class or none sounds are passed over."""
    beats = [classes for classes in sounding_on_beats(score) if len(classes) > 1]
    full = sum(any(root in c and third in c and c <= tones for tones, root, third in _CHORDS) for c in beats)
    inside = sum(any(c <= tones for tones, _, _ in _CHORDS) for c in beats)
    count = max(len(beats), 1)
    return Harmony(full / count, 1 - inside / count, len(beats))


def closes(score: Score, key: str) -> tuple[bool, bool]:
    """Whether the last chord is the tonic's, and whether it comes from the dominant (V, V7 or vii°): an
    authentic close. Raises ValueError for an unknown key."""
    tonic, _ = key_index(key)
    line = [tuple(row) for row in chords_of(score, key)[:, 2:4].tolist() if row[0] != NO_CHORD]
    if not line:
        return False, False
    home = line[-1][0] == tonic and NAMES[line[-1][1]] in ("", "m")
    before = next((chord for chord in reversed(line) if chord[0] != line[-1][0]), None)
    if before is None:
        return home, False
    dominant = (before[0] - tonic) % 12 == 7 and NAMES[before[1]] in ("", "7", "m", "m7", "sus4")
    leading = (before[0] - tonic) % 12 == 11 and NAMES[before[1]] in ("dim", "dim7", "m7b5")
    return home, home and (dominant or leading)


def final_root(score: Score) -> int | None:
    """Root of the last chord, a triad with its bass on the root; None for music of one line or another
    ending."""
    if len(score.tracks) < VOICES:
        return None
    line = [row for row in chords_of(score)[:, 2:].tolist() if row[0] != NO_CHORD]
    root, quality, bass = line[-1] if line else (0, 0, 1)
    return int(root) if bass == root and NAMES[quality] in ("", "m") else None


def root_agreement(score: Score, other: Score) -> tuple[int, int]:
    """(beats with the same root in both, beats on which both have a chord)."""
    mine, theirs = (chords_of(each)[:, 2] for each in (score, other))
    n = min(len(mine), len(theirs))
    both = (mine[:n] != NO_CHORD) & (theirs[:n] != NO_CHORD)
    return int((both & (mine[:n] == theirs[:n])).sum()), int(both.sum())

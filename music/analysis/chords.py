"""Chords of a score, beat by beat: root, quality and bass, from what sounds.

Each beat's pitch classes, weighted by how long they sound in it, are compared with every chord of
music/score/chords.py; the most likely line of chords is found with a cost for each change (Viterbi 1967;
templates after Pardo & Birmingham 2002), lower where chords change in music: at barlines and on strong beats.
In music of one line the chord is what the line implies, so changes cost more and chords of the key are
preferred.
"""

from collections.abc import Sequence

import numpy as np
from symusic import Score

from music.score.chords import NO_CHORD, QUALITIES, chord_name, parse_chord
from music.score.form import bar_table, note_array
from music.score.keys import key_index, scale_of

COLUMNS = ("tick", "length", "root", "quality", "bass")
PRIOR = dict(
    zip(
        ("", "m", "dim", "aug", "7", "maj7", "m7", "m7b5", "dim7", "sus4"),
        (0.0, 0.0, -0.12, -0.3, -0.1, -0.22, -0.14, -0.16, -0.2, -0.3),
        strict=True,
    )
)
PLAIN = ("", "m", "dim", "7")  # what a single line can imply
FEW = 1.5  # voices sounding on average, below which the music is one line
FOREIGN, ROOT_IN_BASS, ROOT_ABSENT, THIRD_ABSENT, STRUCK = 1.0, 0.15, 0.35, 0.15, 1.5
CHANGE, CHANGE_OF_LINE = (0.03, 0.06, 0.1), (0.25, 0.45, 0.9)  # at a barline, on a strong beat, elsewhere
DIATONIC, PRIMARY = 0.12, 0.12  # worth of a chord of the key, of its I, IV and V, in one line
SILENCE = 0.02


def beats_of(score: Score) -> np.ndarray:
    """Beats, int64 (n, 3): tick, length, strength (0: barline, 1: strong, 2: weak). A beat is a quarter, or a
    dotted quarter in n/8 with n divisible by 3."""
    rows = []
    for start, length, numerator, denominator in bar_table(score).tolist():
        compound = denominator == 8 and numerator % 3 == 0
        beat = score.tpq * 3 // 2 if compound else score.tpq
        count = max(-(-length // beat), 1)
        strong = count // 2 if count % 2 == 0 and count > 2 else 0
        for i in range(count):
            tick = start + i * beat
            rows.append((tick, min(beat, start + length - tick), 0 if not i else 1 if i == strong else 2))
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def chords_of(score: Score, key: str = "") -> np.ndarray:
    """Chord of every beat, int64 (beats, 5) of COLUMNS; root NO_CHORD where nothing sounds. `key`: helps
    music of one line."""
    beats = beats_of(score)
    weights, bass, voices = _heard(score, beats)
    line = voices < FEW
    states = [(root, i) for i in range(len(QUALITIES)) for root in range(12)]
    fits = _fits(weights, bass, states, line, key)  # (beats, states + 1)
    path = _best_path(fits, np.array(CHANGE_OF_LINE if line else CHANGE)[beats[:, 2]])
    root, quality = np.array([*states, (NO_CHORD, 0)]).T
    found = np.column_stack([beats[:, :2], root[path], quality[path], root[path]])
    if not line:
        known = (bass >= 0) & (found[:, 2] != NO_CHORD)
        tones = np.array(
            [[(b - r) % 12 in list(QUALITIES.values())[q] for b in range(12)] for r, q in found[:, 2:4]]
        )
        known &= tones[np.arange(len(found)), np.maximum(bass, 0)]
        found[known, 4] = bass[known]
    return found


def chords_told(score: Score, told: Sequence[tuple[float, str]]) -> np.ndarray:
    """Chords of every beat as `chords_of`, from symbols written above the notes by (quarter, symbol), rising:
    those in force as each beat begins. Raises UnknownChord."""
    beats = beats_of(score)
    starts = np.array([round(quarter * score.tpq) for quarter, _ in told])
    read = np.array([(NO_CHORD, 0, 0), *(parse_chord(symbol) for _, symbol in told)], dtype=np.int64)
    return np.column_stack([beats[:, :2], read[np.searchsorted(starts, beats[:, 0], side="right")]])


def _heard(score: Score, beats: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights of pitch classes in each beat (beats, 12), summing to 1 or 0; the lowest pitch class at its
    start, -1: none; and voices sounding on average."""
    notes = [note_array(track) for track in score.tracks if not track.is_drum and len(track.notes)]
    together = np.concatenate(notes) if notes else np.zeros((0, 3), dtype=np.int64)
    weights, low = np.zeros((len(beats), 12)), np.full(len(beats), 999)
    starts, ends = beats[:, 0], beats[:, 0] + beats[:, 1]
    for onset, duration, pitch in together.tolist():
        first = int(np.searchsorted(ends, onset, side="right"))
        last = int(np.searchsorted(starts, onset + duration, side="left"))
        for b in range(first, min(last, len(beats))):
            sounding = min(onset + duration, int(ends[b])) - max(onset, int(starts[b]))
            struck = onset <= starts[b]
            weights[b, pitch % 12] += sounding * (STRUCK if struck else 1.0)
            if struck:
                low[b] = min(low[b], pitch)
    total = weights.sum(axis=1, keepdims=True)
    covered = float(together[:, 1].sum()) / max(float(beats[:, 1][total[:, 0] > 0].sum()), 1.0)
    return weights / np.maximum(total, 1e-9), np.where(low < 999, low % 12, -1), covered


def _fits(
    weights: np.ndarray, bass: np.ndarray, states: list[tuple[int, int]], line: bool, key: str
) -> np.ndarray:
    names = list(QUALITIES)
    tones = np.zeros((len(states), 12))
    for s, (root, quality) in enumerate(states):
        tones[s, [(root + step) % 12 for step in QUALITIES[names[quality]]]] = 1
    roots = np.array([root for root, _ in states])
    thirds = np.array([(root + QUALITIES[names[quality]][1]) % 12 for root, quality in states])
    sounding = weights.sum(axis=1, keepdims=True) > 0
    inside = weights @ tones.T
    fits = inside - FOREIGN * (1 - inside) + np.array([PRIOR[names[quality]] for _, quality in states])
    fits -= np.where(weights[:, roots] > 0, 0, ROOT_ABSENT if not line else ROOT_ABSENT / 3)
    fits -= np.where(weights[:, thirds] > 0, 0, THIRD_ABSENT)
    fits += np.where(bass[:, None] == roots, ROOT_IN_BASS, 0) if not line else 0
    if line:
        plain = np.array([names[quality] in PLAIN for _, quality in states])
        fits = np.where(plain, fits, -9.0)
        if key:
            scale, (tonic, _) = scale_of(key), key_index(key)
            fits += DIATONIC * np.array(
                [all(tones[s, pc] <= (pc in scale) for pc in range(12)) for s in range(len(states))]
            )
            fits += PRIMARY * np.isin((roots - tonic) % 12, (0, 5, 7))
    fits = np.where(sounding, fits, 0.0)
    return np.concatenate([fits, np.where(sounding, -0.5, SILENCE)], axis=1)


def _best_path(fits: np.ndarray, change: np.ndarray) -> np.ndarray:
    """State of each beat, int64 (beats,): the most worth less the cost of changes."""
    if not len(fits):
        return np.zeros(0, dtype=np.int64)
    score, came = fits[0], np.zeros(fits.shape, dtype=np.int64)
    stay = np.arange(fits.shape[1])
    for b in range(1, len(fits)):
        best = int(score.argmax())
        moved = score[best] - change[b]
        came[b] = np.where(moved > score, best, stay)
        score = np.maximum(score, moved) + fits[b]
    path = np.zeros(len(fits), dtype=np.int64)
    path[-1] = int(score.argmax())
    for b in range(len(fits) - 1, 0, -1):
        path[b - 1] = came[b, path[b]]
    return path


def lead_sheet(score: Score, key: str = "") -> str:
    """Chords bar by bar as `chord_line` of models/fill/asked.py reads them: one name where a bar has one
    chord, two where it has one in each half, else one a beat."""
    beats, chords = beats_of(score), chords_of(score, key)
    starts = np.flatnonzero(beats[:, 2] == 0)
    bars = []
    for first, last in zip(starts, [*starts[1:], len(beats)], strict=True):
        names = [chord_name(*row) for row in chords[first:last, 2:5].tolist()]
        half = len(names) // 2
        if len(set(names)) == 1:
            names = names[:1]
        elif len(names) % 2 == 0 and len(set(names[:half])) == len(set(names[half:])) == 1:
            names = [names[0], names[half]]
        bars.append(" ".join(names))
    return " | ".join(bars)

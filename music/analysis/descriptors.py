"""Measurable musical facts: one vocabulary for controls, obedience, rewards, drift, and explanations.

`describe` gives numbers a musician can check by hand; `histograms` the vectors behind them. Every function
takes a score in the normal form of music/score/form.py and works on arrays, so a piece of 300 notes costs
about half a millisecond.
"""

from dataclasses import dataclass

import numpy as np
from symusic import Score

from music.score.form import bar_table, first_bars, note_array
from music.score.keys import key_correlations

NOTE_LENGTH_EDGES_QUARTERS = np.array([0.0, 0.2, 0.3, 0.45, 0.55, 0.8, 1.05, 1.55, 2.05, 3.05, 4.05, np.inf])
INTERVAL_CAP = 12
OPENING_BARS = 8


@dataclass(frozen=True)
class Descriptor:
    """Name, unit and the two ends of what it measures, in words for people."""

    name: str
    unit: str
    low: str
    high: str


DESCRIPTORS = (
    Descriptor("note_density", "notes per quarter", "fewer notes", "more notes"),
    Descriptor("polyphony", "sounding notes", "thinner texture", "thicker texture"),
    Descriptor("mean_pitch", "MIDI pitch", "lower", "higher"),
    Descriptor("pitch_range", "semitones", "narrower range", "wider range"),
    Descriptor("key_clarity", "correlation", "less clear key", "clearer key"),
    Descriptor("pitch_class_entropy", "bits", "fewer different notes", "more chromatic"),
    Descriptor("mean_note_length", "quarters", "shorter notes", "longer notes"),
    Descriptor("note_length_entropy", "bits", "steadier rhythm", "more varied rhythm"),
    Descriptor("syncopation", "share of onsets", "on the beat", "more syncopated"),
    Descriptor("stepwise_motion", "share of intervals", "more leaps", "more steps"),
    Descriptor("mean_leap", "semitones", "smaller intervals", "larger intervals"),
    Descriptor("bar_repetition", "share of bars", "fewer repeated bars", "more repeated bars"),
)
NAMES = tuple(descriptor.name for descriptor in DESCRIPTORS)


def _entropy_bits(counts: np.ndarray) -> float:
    p = counts[counts > 0] / max(counts.sum(), 1e-12)
    return float(-(p * np.log2(p)).sum())


def melodic_intervals(score: Score) -> np.ndarray:
    """Semitone steps between the highest notes at successive onsets of each pitched track, int64 (n,)."""
    steps = []
    for track in score.tracks:
        if track.is_drum or not len(track.notes):
            continue
        notes = note_array(track)
        last_of_onset = np.append(
            notes[1:, 0] != notes[:-1, 0], True
        )  # sorted by pitch within an onset: the last is the top
        steps.append(np.diff(notes[last_of_onset, 2]))
    return np.concatenate(steps) if steps else np.zeros(0, dtype=np.int64)


def _all_notes(score: Score) -> np.ndarray:
    pitched = [note_array(track) for track in score.tracks if not track.is_drum and len(track.notes)]
    return np.concatenate(pitched) if pitched else np.zeros((0, 3), dtype=np.int64)


def histograms(score: Score) -> dict[str, np.ndarray]:
    """Pitch classes (12, weighted by duration), note lengths (11 bins), melodic intervals (25: -12..12,
    clipped), each summing to 1; pitch-class transitions (12, 12) of melodic steps as counts."""
    notes = _all_notes(score)
    pitch_classes = np.bincount(notes[:, 2] % 12, weights=notes[:, 1], minlength=12)
    lengths = np.histogram(notes[:, 1] / score.tpq, bins=NOTE_LENGTH_EDGES_QUARTERS)[0].astype(float)
    steps = np.clip(melodic_intervals(score), -INTERVAL_CAP, INTERVAL_CAP)
    intervals = np.bincount(steps + INTERVAL_CAP, minlength=2 * INTERVAL_CAP + 1).astype(float)
    transitions = np.zeros((12, 12))
    for track in score.tracks:
        if not track.is_drum and len(track.notes):
            pitch = note_array(track)[:, 2] % 12
            np.add.at(transitions, (pitch[:-1], pitch[1:]), 1)
    return {
        "pitch_class_histogram": pitch_classes / max(pitch_classes.sum(), 1e-12),
        "note_length_histogram": lengths / max(lengths.sum(), 1e-12),
        "interval_histogram": intervals / max(intervals.sum(), 1e-12),
        "pitch_class_transitions": transitions,
    }


def bar_repetition(score: Score, bars: np.ndarray) -> float:
    """Share of bars with notes whose notes (relative onset, duration, pitch, track) equal those of an earlier
    bar."""
    starts = bars[:, 0]
    contents: list[list[tuple[int, int, int, int]]] = [[] for _ in bars]
    for index, track in enumerate(score.tracks):
        for onset, duration, pitch in note_array(track):
            bar = int(np.searchsorted(starts, onset, side="right")) - 1
            contents[bar].append((index, int(onset - starts[bar]), int(duration), int(pitch)))
    filled = [tuple(sorted(content)) for content in contents if content]
    return 1 - len(set(filled)) / len(filled) if filled else 0.0


def _off_beat_share(notes: np.ndarray, bars: np.ndarray, tpq: int) -> float:
    """Share of onsets that start off the beat and sound through the next beat; a beat is a quarter, or a
    dotted quarter in n/8 with n % 3 == 0."""
    bar = np.searchsorted(bars[:, 0], notes[:, 0], side="right") - 1
    compound = (bars[bar, 3] == 8) & (bars[bar, 2] % 3 == 0)
    beat = np.where(compound, 3 * tpq // 2, tpq)
    phase = (notes[:, 0] - bars[bar, 0]) % beat
    return float(((phase > 0) & (phase + notes[:, 1] > beat)).mean())


def describe(score: Score) -> dict[str, float]:
    """Every scalar of DESCRIPTORS for a score in normal form; drums count only for bar_repetition. Zeroes
    where nothing is pitched."""
    notes = _all_notes(score)
    if not len(notes):
        return dict.fromkeys(NAMES, 0.0)
    bars = bar_table(score)
    vectors = histograms(score)
    steps = np.abs(melodic_intervals(score))
    onsets, ends = notes[:, 0], notes[:, 0] + notes[:, 1]
    total_quarters = float(bars[:, 1].sum()) / score.tpq
    edges = np.unique(np.concatenate([onsets, ends]))
    sounding = np.searchsorted(np.sort(onsets), edges[:-1], side="right") - np.searchsorted(
        np.sort(ends), edges[:-1], side="right"
    )
    spans = np.diff(edges)
    heard = spans[sounding > 0].sum()
    values = {
        "note_density": len(notes) / total_quarters,
        "polyphony": float((sounding * spans).sum() / max(heard, 1)),
        "mean_pitch": float(notes[:, 2].mean()),
        "pitch_range": float(notes[:, 2].max() - notes[:, 2].min()),
        "key_clarity": float(key_correlations(vectors["pitch_class_histogram"]).max()),
        "pitch_class_entropy": _entropy_bits(vectors["pitch_class_histogram"]),
        "mean_note_length": float(notes[:, 1].mean() / score.tpq),
        "note_length_entropy": _entropy_bits(vectors["note_length_histogram"]),
        "syncopation": _off_beat_share(notes, bars, score.tpq),
        "stepwise_motion": float((steps <= 2).mean()) if len(steps) else 0.0,
        "mean_leap": float(steps.mean()) if len(steps) else 0.0,
        "bar_repetition": bar_repetition(score, bars),
    }
    return {name: round(values[name], 6) for name in NAMES}


def describe_opening(score: Score, bars: int = OPENING_BARS) -> dict[str, float]:
    """`describe` of the first bars: range and repetition grow with length, so pieces of different length are
    compared by these."""
    return describe(first_bars(score, bars))

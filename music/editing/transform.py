"""Edits by rule: the plain transformations of a score, on the file's own ticks.

Those of notes (transpose, quantise, swing, humanise, invert, retrograde) change the cells of a region; those
of shape (tempo, stretch, metre, split, merge, trim) change the file as a whole. None of them changes its
argument.
"""

from collections.abc import Callable

import numpy as np
from symusic import Score, Tempo, TimeSignature

from music.editing.reshape import retimed
from music.score.errors import UnreadableScore
from music.score.file_cells import FileCells, clear_of, notes_of, set_notes
from music.score.form import bar_ticks, end_tick
from music.score.keys import key_index, scale_of

NoteRule = Callable[
    [np.ndarray, np.ndarray, np.ndarray], np.ndarray
]  # notes (n, 4), start and length of the bar of each (n,), to notes


def on_notes(file: FileCells, region: np.ndarray, rule: NoteRule, drums: bool = True) -> FileCells:
    """The file with `rule` applied to the notes of the region; a note that it would move out of the region
    stays. drums=False leaves drum tracks alone."""
    score = file.score.copy()
    for k in np.flatnonzero(region.any(axis=0)):
        track = score.tracks[int(k)]
        if track.is_drum and not drums:
            continue
        notes = notes_of(track)
        bar = file.bar_of(notes[:, 0])
        mine = region[bar, k]
        if mine.any():
            changed = rule(notes[mine], file.bars[bar[mine], 0], file.bars[bar[mine], 1])
            changed[:, :2] = np.maximum(changed[:, :2], [0, 1])
            leaves = ~region[file.bar_of(changed[:, 0]), k]
            changed[leaves] = notes[mine][leaves]
            clear = clear_of(changed, notes[~mine], each_other=False)  # no note cuts a kept one
            clear = clear[region[file.bar_of(clear[:, 0]), k]]
            set_notes(track, np.concatenate([notes[~mine], clear]))
    return FileCells(score, file.bars)


def _within(pitch: np.ndarray, what: str) -> np.ndarray:
    if len(pitch) and (pitch.min() < 0 or pitch.max() > 127):
        raise UnreadableScore(
            f"{what} leaves MIDI's pitches 0-127 (it would reach {pitch.min()} to {pitch.max()}): "
            f"choose a smaller interval"
        )
    return pitch


def transpose(semitones: int) -> NoteRule:
    """Every pitch by an interval."""
    return lambda notes, start, length: np.column_stack(
        [notes[:, :2], _within(notes[:, 2] + semitones, "transposing"), notes[:, 3]]
    )


def to_key(source: str, target: str) -> NoteRule:
    """From one key to another of the same mode, by the nearest interval (at most 6 semitones)."""
    (a, mode), (b, other) = key_index(source), key_index(target)
    if mode != other:
        raise ValueError(
            f"{source} and {target} are of different modes: transpose by an interval, or use diatonic "
            f"steps in the new key"
        )
    return transpose((b - a + 6) % 12 - 6)


def diatonic(key: str, steps: int) -> NoteRule:
    """Every note by so many steps of a scale; a note outside the scale moves with the scale note below it."""
    scale = np.array(sorted(scale_of(key)))
    ladder = np.array([12 * octave + pc for octave in range(-2, 14) for pc in scale])

    def rule(notes: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        place = np.searchsorted(ladder, notes[:, 2], side="right") - 1
        raised = notes[:, 2] - ladder[place]
        return np.column_stack(
            [
                notes[:, :2],
                _within(ladder[np.clip(place + steps, 0, len(ladder) - 1)] + raised, "transposing"),
                notes[:, 3],
            ]
        )

    return rule


def quantise(grid_ticks: float, strength: float = 1.0) -> NoteRule:
    """Onsets and ends towards multiples of `grid_ticks` from the barline: all the way at strength 1."""

    def rule(notes: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        ends = notes[:, 0] + notes[:, 1]
        onset = notes[:, 0] + strength * (
            np.rint((notes[:, 0] - start) / grid_ticks) * grid_ticks + start - notes[:, 0]
        )
        end = ends + strength * (np.rint((ends - start) / grid_ticks) * grid_ticks + start - ends)
        end = np.maximum(end, onset + (grid_ticks if strength == 1 else 1))
        return np.column_stack([np.rint(onset), np.rint(end) - np.rint(onset), notes[:, 2:]]).astype(np.int64)

    return rule


def swing(ticks_per_quarter: int, amount: float) -> NoteRule:
    """Second quavers late: the beat divided amount : 1 - amount (0.5 even, 0.667 triplets)."""

    def warp(tick: np.ndarray) -> np.ndarray:
        beat, phase = np.divmod(tick, ticks_per_quarter)
        half = ticks_per_quarter / 2
        bent = np.where(
            phase < half,
            phase * amount / 0.5,
            ticks_per_quarter * amount + (phase - half) * (1 - amount) / 0.5,
        )
        return np.asarray(beat * ticks_per_quarter + bent)

    def rule(notes: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        onset, end = (
            np.rint(warp(tick - start) + start).astype(np.int64)
            for tick in (notes[:, 0], notes[:, 0] + notes[:, 1])
        )
        return np.column_stack([onset, end - onset, notes[:, 2:]])

    return rule


def humanise(seed: int, timing_ticks: float, velocity: float) -> NoteRule:
    """Onsets and velocities with normal noise of these standard deviations, cut at two of them; no note
    crosses its barlines."""

    def rule(notes: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        random = np.random.default_rng(seed)
        noise = np.clip(random.standard_normal((2, len(notes))), -2, 2)
        onset = np.clip(np.rint(notes[:, 0] + timing_ticks * noise[0]), start, start + length - 1).astype(
            np.int64
        )
        loud = np.clip(np.rint(notes[:, 3] + velocity * noise[1]), 1, 127).astype(np.int64)
        return np.column_stack([onset, notes[:, 1], notes[:, 2], loud])

    return rule


def invert(axis: int | None = None) -> NoteRule:
    """Pitches mirrored about `axis` (a MIDI pitch; default: the first note's), as intervals upside down."""

    def rule(notes: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        about = int(notes[0, 2]) if axis is None else axis
        return np.column_stack([notes[:, :2], _within(2 * about - notes[:, 2], "inverting"), notes[:, 3]])

    return rule


def retrograde(first_tick: int, last_tick: int) -> NoteRule:
    """Backwards in time between two ticks: what ended first begins first."""

    def rule(notes: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        end = np.minimum(notes[:, 0] + notes[:, 1], last_tick)
        onset = first_tick + last_tick - end
        return np.column_stack([onset, end - notes[:, 0], notes[:, 2:]])

    return rule


def with_tempo(file: FileCells, qpm: float | None = None, factor: float | None = None) -> FileCells:
    """One tempo throughout, or every tempo times a factor."""
    score = file.score.copy()
    if qpm is not None:
        score.tempos.clear()
        score.tempos.append(Tempo(0, qpm=qpm))
    elif factor is not None:
        tempos = [(tempo.time, tempo.qpm * factor) for tempo in file.score.tempos] or [(0, 120.0 * factor)]
        score.tempos.clear()
        for time, speed in tempos:
            score.tempos.append(Tempo(time, qpm=speed))
    return FileCells(score, file.bars)


def stretched(file: FileCells, factor: float) -> FileCells:
    """Every event `factor` times as late and as long, in the same bars' metres: 2 doubles note lengths."""
    end = max(end_tick(file.score), 1)
    score = retimed(file.score, [0, end], [0, round(end * factor)])
    signatures = [(ts.time, ts.numerator, ts.denominator) for ts in file.score.time_signatures]
    score.time_signatures.clear()
    for time, n, d in signatures:
        length = bar_ticks(n, d, score.tpq)
        score.time_signatures.append(
            TimeSignature(round(time * factor / length) * length if time else 0, n, d)
        )
    return FileCells.of(score)


def rebarred(file: FileCells, numerator: int, denominator: int) -> FileCells:
    """Other barlines over the same notes."""
    bar_ticks(numerator, denominator, file.score.tpq)
    score = file.score.copy()
    score.time_signatures.clear()
    score.time_signatures.append(TimeSignature(0, numerator, denominator))
    return FileCells.of(score)


def split_at(file: FileCells, track: int, pitch: int) -> FileCells:
    """Notes of a track from `pitch` on stay; the lower ones go to a new track after the last, of the same
    instrument."""
    score = file.score.copy()
    notes = notes_of(score.tracks[track])
    low = notes[:, 2] < pitch
    if low.all() or not low.any():
        raise ValueError(
            f"all notes of track {track + 1} lie {'below' if low.all() else 'at or above'} "
            f"pitch {pitch}: choose another to split at"
        )
    lower = score.tracks[track].copy()
    lower.name = f"{lower.name} (low)".strip()
    set_notes(lower, notes[low])
    set_notes(score.tracks[track], notes[~low])
    score.tracks.append(lower)
    return FileCells(score, file.bars)


def merged(file: FileCells, tracks: list[int]) -> FileCells:
    """Tracks as one: all notes on the first of them, with its instrument; the others go."""
    if len(tracks) < 2:
        raise ValueError("merge takes two tracks or more")
    score = file.score.copy()
    if len({score.tracks[k].is_drum for k in tracks}) > 1:
        raise ValueError("drums and pitched tracks cannot be one track")
    notes = np.concatenate([notes_of(score.tracks[k]) for k in tracks])
    set_notes(score.tracks[tracks[0]], np.unique(notes, axis=0))
    for k in sorted(tracks[1:], reverse=True):
        del score.tracks[k]
    return FileCells(score, file.bars)


def trimmed(file: FileCells, first: int, last: int) -> FileCells:
    """Bars [first, last) alone; notes that sound on are cut at the last barline."""
    start, end = int(file.bars[first, 0]), int(file.bars[last - 1, :2].sum())
    score: Score = file.score.clip(start, end, clip_end=False).shift_time(-start)
    speed = [tempo for tempo in file.score.tempos if tempo.time <= start][-1:]
    score.tempos.clear()
    if speed:
        score.tempos.append(Tempo(0, qpm=speed[0].qpm))
    for tempo in file.score.tempos:
        if start < tempo.time < end:
            score.tempos.append(Tempo(tempo.time - start, qpm=tempo.qpm))
    score.time_signatures.clear()
    for b in range(first, last):
        n, d = file.bars[b, 2:].tolist()
        if b == first or (n, d) != tuple(file.bars[b - 1, 2:].tolist()):
            score.time_signatures.append(TimeSignature(int(file.bars[b, 0]) - start, n, d))
    for track in score.tracks:
        notes = notes_of(track)
        notes[:, 1] = np.minimum(notes[:, 1], end - start - notes[:, 0])
        set_notes(track, notes)
    if not score.note_num():
        raise ValueError(f"bars {first + 1} to {last} hold no notes")
    return FileCells.of(score)

"""The normal form of a score: `symusic.Score` in ticks on a fixed grid, in whole bars, with nothing that
identifies people.

Notation used here: a *tick* is 1 / `ticks_per_quarter` of a quarter note; a *bar table* has one row per bar:
(start_tick, length_ticks, numerator, denominator).
"""

from dataclasses import dataclass

import numpy as np
from symusic import Note, Score, Tempo, TimeSignature, Track

from music.score.errors import UnreadableScore

DEFAULT_TEMPO_QPM = 120.0
SLOWEST_QPM, FASTEST_QPM = 4, 1000  # a tempo beyond them is damage, and is left out
VELOCITY = 80  # of a note whose source says nothing
METRE_DENOMINATORS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Limits:
    """What a score may hold before it is refused: a defence for the reader and a cap for training."""

    max_bytes: int = 4_000_000
    max_quarters: int = 20_000
    max_notes: int = 200_000
    max_tracks: int = 128


def parse_metre(text: str) -> tuple[int, int]:
    """Numerator and denominator of "6/8". Raises ValueError."""
    numerator, _, denominator = text.partition("/")
    if not (numerator.isdecimal() and denominator.isdecimal()):
        raise ValueError(f"{text!r} is no metre: write it as 6/8")
    return int(numerator), int(denominator)


def bar_ticks(numerator: int, denominator: int, ticks_per_quarter: int) -> int:
    """Length of a bar in ticks; raises UnreadableScore where the metre does not fit the grid."""
    if denominator not in METRE_DENOMINATORS or not 1 <= numerator <= 64:
        raise UnreadableScore(
            f"metre {numerator}/{denominator} is not one we can hold: use n/1, 2, 4, 8, 16 or 32"
        )
    ticks, rest = divmod(4 * ticks_per_quarter * numerator, denominator)
    if rest:
        raise UnreadableScore(
            f"a bar of {numerator}/{denominator} is not a whole number of ticks at "
            f"{ticks_per_quarter} ticks a quarter: raise prepare.ticks_per_quarter or re-bar the score"
        )
    return ticks


def note_array(track: Track, loudness: bool = False) -> np.ndarray:
    """Notes of one track as int64 (n, 3): onset_ticks, duration_ticks, pitch; sorted by onset, then pitch.
    With `loudness` (n, 4): their velocities too."""
    columns = track.notes.numpy()
    names = ("time", "duration", "pitch", *(("velocity",) if loudness else ()))
    notes = np.stack([columns[name] for name in names], axis=1).astype(np.int64)
    return notes[np.lexsort((notes[:, 1], notes[:, 2], notes[:, 0]))]


def end_tick(score: Score) -> int:
    """Tick at which the last note ends; 0 for a score without notes."""
    ends = [
        int((columns["time"].astype(np.int64) + columns["duration"]).max())
        for columns in (track.notes.numpy() for track in score.tracks)
        if len(columns["time"])
    ]
    return max(ends, default=0)


def bar_table(score: Score) -> np.ndarray:
    """Bars from tick 0 to the end of the last note, int64 (n_bars, 4): start, length, numerator, denominator.

    A change of metre starts a bar: in the normal form it always falls on a barline; elsewhere the bar before
    it is cut short.
    """
    end = end_tick(score)
    changes = [
        (ts.time, ts.numerator, ts.denominator) for ts in score.time_signatures if ts.time < max(end, 1)
    ]
    if not changes or changes[0][0] > 0:
        changes.insert(0, (0, 4, 4))
    rows: list[tuple[int, int, int, int]] = []
    for i, (start, numerator, denominator) in enumerate(changes):
        stop = changes[i + 1][0] if i + 1 < len(changes) else end
        length = bar_ticks(numerator, denominator, score.tpq)
        rows += [
            (t, min(length, stop - t) if i + 1 < len(changes) else length, numerator, denominator)
            for t in range(start, stop, length)
        ]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def check_limits(score: Score, limits: Limits) -> None:
    """Refuse what would be slow or meaningless, before any work is done on it."""
    notes = score.note_num()
    if notes == 0:
        raise UnreadableScore("the score has no notes")
    if notes > limits.max_notes:
        raise UnreadableScore(f"the score has {notes} notes; at most {limits.max_notes} are read: split it")
    if len(score.tracks) > limits.max_tracks:
        raise UnreadableScore(
            f"the score has {len(score.tracks)} tracks; at most {limits.max_tracks} are read: "
            f"merge or drop some"
        )
    if score.tpq <= 0:
        raise UnreadableScore(
            "the file gives no ticks per quarter (SMPTE time is not supported): export it with musical time"
        )
    last = max(int(track.notes.numpy()["time"].max()) for track in score.tracks if len(track.notes))
    events = [*score.time_signatures, *score.tempos, *score.key_signatures]
    last = max([last, end_tick(score), *(event.time for event in events)])
    first = min([0, *(int(track.notes.numpy()["time"].min()) for track in score.tracks if len(track.notes))])
    if last / score.tpq > limits.max_quarters or first < 0:
        raise UnreadableScore(
            f"an event lies at quarter {last // score.tpq}; at most {limits.max_quarters} "
            f"quarters are read: the file is damaged or must be split"
        )


def without_overlaps(notes: np.ndarray) -> np.ndarray:
    """At most one sounding note a pitch: of doubles the longest stays, and a note ends where the same pitch
    starts again."""
    notes = notes[np.lexsort((-notes[:, 1], notes[:, 0], notes[:, 2]))]  # by pitch, then onset, longest first
    same_pitch = notes[1:, 2] == notes[:-1, 2]
    doubled = np.concatenate([[False], same_pitch & (notes[1:, 0] == notes[:-1, 0])])
    notes = notes[~doubled]
    gap = np.where(notes[1:, 2] == notes[:-1, 2], notes[1:, 0] - notes[:-1, 0], np.iinfo(np.int64).max)
    notes[:-1, 1] = np.minimum(notes[:-1, 1], gap)
    return notes[np.lexsort((notes[:, 2], notes[:, 0]))]


def metre_changes(score: Score, ticks_per_quarter: int) -> list[tuple[int, int, int]]:
    """(tick, numerator, denominator) on the new grid; a change inside a bar moves to the nearest barline."""
    changes = [(0, 4, 4)]
    for ts in sorted(score.time_signatures, key=lambda ts: ts.time):
        start, numerator, denominator = changes[-1]
        length = bar_ticks(numerator, denominator, ticks_per_quarter)
        tick = start + max(round((ts.time * ticks_per_quarter / score.tpq - start) / length), 0) * length
        bar_ticks(ts.numerator, ts.denominator, ticks_per_quarter)
        if tick == start:
            changes.pop()
        elif (ts.numerator, ts.denominator) == (numerator, denominator):
            continue
        changes.append((max(tick, 0), ts.numerator, ts.denominator))
    return changes


def normalise(score: Score, *, ticks_per_quarter: int, velocity: int | None) -> Score:
    """The normal form of any score.

    Onsets and ends are rounded to the grid (a note lasts at least one tick), doubles and overlaps of one
    pitch in a track are resolved, empty tracks dropped, velocity and tempo made constant (velocity None: both
    stay, tempos as steps at their ticks); only notes, programs and metre remain, so no text, lyric,
    copyright, name or sysex survives. Bars of silence before the first note are removed.
    """
    changes = metre_changes(score, ticks_per_quarter)
    tracks: list[tuple[int, bool, np.ndarray]] = []
    for track in score.tracks:
        if not len(track.notes):
            continue
        raw = note_array(track, loudness=True)
        ends = np.rint((raw[:, 0] + raw[:, 1]) * ticks_per_quarter / score.tpq).astype(np.int64)
        onsets = np.rint(raw[:, 0] * ticks_per_quarter / score.tpq).astype(np.int64)
        loud = raw[:, 3] if velocity is None else np.full(len(raw), velocity)
        notes = without_overlaps(np.stack([onsets, np.maximum(ends - onsets, 1), raw[:, 2], loud], axis=1))
        tracks.append((0 if track.is_drum else track.program, track.is_drum, notes))
    if not tracks:
        raise UnreadableScore("the score has no notes")
    earliest = min(int(notes[0, 0]) for _, _, notes in tracks)
    normal = build(tracks, changes_from_first_note(changes, tracks, ticks_per_quarter), ticks_per_quarter)
    if velocity is None and len(score.tempos):
        moved = earliest - min(int(notes[0, 0]) for _, _, notes in tracks)
        normal.tempos.clear()
        for tick, qpm in tempo_steps(score, ticks_per_quarter, moved, end_tick(normal)):
            normal.tempos.append(Tempo(tick, qpm=qpm))
    return normal


def tempo_steps(score: Score, ticks_per_quarter: int, moved: int, end: int) -> list[tuple[int, float]]:
    """(tick, quarters a minute) on a grid whose bars begin `moved` ticks later: the last tempo before 0
    stands at 0."""
    steps: dict[int, float] = {}
    for tempo in sorted(score.tempos, key=lambda each: each.time):
        tick = max(round(tempo.time * ticks_per_quarter / score.tpq) - moved, 0)
        if tick < max(end, 1):
            steps[tick] = float(tempo.qpm)
    return sorted(({0: DEFAULT_TEMPO_QPM} | steps).items())


def changes_from_first_note(
    changes: list[tuple[int, int, int]], tracks: list[tuple[int, bool, np.ndarray]], ticks_per_quarter: int
) -> list[tuple[int, int, int]]:
    """Shift `tracks` in place and return `changes` so that the bar of the first note starts at tick 0."""
    first = min(int(notes[0, 0]) for _, _, notes in tracks)
    start, numerator, denominator = [c for c in changes if c[0] <= first][-1]
    length = bar_ticks(numerator, denominator, ticks_per_quarter)
    shift = start + (first - start) // length * length
    for _, _, notes in tracks:
        notes[:, 0] -= shift
    return [(0, numerator, denominator)] + [(t - shift, n, d) for t, n, d in changes if t > first]


def as_notes(notes: np.ndarray, velocity: int = VELOCITY) -> "Note":
    """Notes of a track from rows (n, 3) or (n, 4): onset, duration, pitch, and their velocity."""
    time, duration = (np.ascontiguousarray(notes[:, i], dtype=np.int32) for i in range(2))
    pitch = np.ascontiguousarray(notes[:, 2], dtype=np.int8)
    loud = notes[:, 3].astype(np.int8) if notes.shape[1] > 3 else np.full(len(notes), velocity, np.int8)
    return Note.from_numpy(time, duration, pitch, loud, ttype="tick")


def build(
    tracks: list[tuple[int, bool, np.ndarray]],
    changes: list[tuple[int, int, int]],
    ticks_per_quarter: int,
    velocity: int = VELOCITY,
    tempo_qpm: float = DEFAULT_TEMPO_QPM,
) -> Score:
    """A score from (program, is_drum, notes (n, 3)) tracks and (tick, numerator, denominator) metre changes;
    notes (n, 4) have velocities of their own."""
    score = Score(ticks_per_quarter)
    score.tempos.append(Tempo(0, qpm=tempo_qpm))
    for tick, numerator, denominator in changes:
        score.time_signatures.append(TimeSignature(tick, numerator, denominator))
    for program, is_drum, notes in tracks:
        track = Track("", program=program, is_drum=is_drum)
        track.notes = as_notes(notes, velocity)
        score.tracks.append(track)
    return score


def first_bars(score: Score, count: int) -> Score:
    """The first bars of a score in normal form; notes that sound on are cut at the last barline."""
    bars = bar_table(score)[:count]
    end = int(bars[-1, 0] + bars[-1, 1])
    tracks = []
    for track in score.tracks:
        notes = note_array(track)
        notes = notes[notes[:, 0] < end]
        notes[:, 1] = np.minimum(notes[:, 1], end - notes[:, 0])
        tracks.append((track.program, track.is_drum, notes))
    changes = [(ts.time, ts.numerator, ts.denominator) for ts in score.time_signatures if ts.time < end]
    return build(tracks, changes, score.tpq, velocity=80)


def to_midi(score: Score) -> bytes:
    """Standard MIDI file of a score."""
    return bytes(score.dumps_midi())


def same_notes(a: Score, b: Score) -> bool:
    """True where both scores have the same tracks (program, drum), notes (onset, duration, pitch) and
    bars."""
    if a.tpq != b.tpq or len(a.tracks) != len(b.tracks):
        return False
    for left, right in zip(a.tracks, b.tracks, strict=True):
        if (left.program, left.is_drum) != (right.program, right.is_drum) or not np.array_equal(
            note_array(left), note_array(right)
        ):
            return False
    return np.array_equal(bar_table(a), bar_table(b))

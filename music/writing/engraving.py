"""A score as it stands on a page: measures with an upbeat, keys, staves, voices, notes of one symbol each.

What both writers of notation (music/writing/musicxml.py, music/writing/abc_notation.py) put down.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from symusic import Score

from music.score.form import bar_table, normalise, note_array
from music.score.instruments import DRUMS, name_of
from music.score.quantise import quantised
from music.writing.note_values import GRID, values
from music.writing.spelling import Key, key_at, keys_of

PLAYED = 0.1  # share of onsets off the grid, above which a score was played and not written
KEYBOARDS = {*range(8), *range(16, 24), 46}  # General MIDI programs on two staves
MIDDLE_C, LOWEST_ON_ONE = 60, 55  # a keyboard that goes below has a second staff
CLEFS = ("treble", "treble8vb", "alto", "bass", "percussion")
VIOLA, GUITARS, VOICE, TENOR = 41, range(24, 32), 52, 53  # TENOR: lowest median pitch of its clef
CHOIR = {"Soprano": "treble", "Alto": "treble", "Tenor": "treble8vb", "Bass": "bass"}  # clefs of four voices


@dataclass(frozen=True)
class Symbol:
    """A note, chord or rest (no pitches) of one note value; onset and length in ticks of GRID, the onset from
    its barline."""

    onset: int
    length: int
    pitches: tuple[int, ...] = ()
    velocity: int = 0
    tied_on: bool = False
    tied_back: bool = False


@dataclass(frozen=True)
class Measure:
    """start: tick. missing: what an upbeat lacks at its beginning. chords: (ticks from the barline,
    symbol)."""

    start: int
    length: int
    metre: tuple[int, int]
    key: Key
    missing: int = 0
    tempos: list[tuple[int, float]] = field(default_factory=list)
    chords: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Staff:
    """voices: of every measure of the sheet the symbols of each voice, the highest first; a voice that is
    silent in a measure has none there, except the first."""

    clef: str
    measures: list[list[list[Symbol]]]


@dataclass(frozen=True)
class SheetPart:
    """program: General MIDI, DRUMS for drums. Two staves: of a keyboard."""

    name: str
    program: int
    staves: list[Staff]


@dataclass(frozen=True)
class Sheet:
    title: str
    measures: list[Measure]
    parts: list[SheetPart]


def engraved(score: Score, key: str = "", chords: Sequence[tuple[int, str]] = (), title: str = "") -> Sheet:
    """The page of a score with any ticks. key: a label; left out, the score's own signatures or an estimate.
    chords: (tick of the score, symbol). What was played and not written is put on the grid first. Raises
    UnreadableScore for a score without notes, and ValueError for a key that is none."""
    if _share_off_grid(score) > PLAYED:
        score = quantised(score)[0]
    normal = normalise(score, ticks_per_quarter=GRID, velocity=None)
    moved = _earliest(score) * GRID / score.tpq - _earliest(normal)

    def tick(at: int) -> int:
        return max(round(at * GRID / score.tpq - moved), 0)

    keys = [(tick(at), found) for at, found in keys_of(score, key)]
    measures = _measures(normal, keys, [(tick(at), symbol) for at, symbol in chords])
    sounding = [track for track in score.tracks if len(track.notes)]
    names = _names([(track.name, DRUMS if track.is_drum else track.program) for track in sounding])
    parts = [
        SheetPart(name, DRUMS if track.is_drum else track.program, _staves(track, measures, CHOIR.get(name)))
        for name, track in zip(names, normal.tracks, strict=True)
    ]
    return Sheet(title, measures, parts)


def _share_off_grid(score: Score) -> float:
    onsets = np.concatenate(
        [track.notes.numpy()["time"] for track in score.tracks if len(track.notes)] or [[]]
    )
    places = onsets * GRID / score.tpq
    return float(np.mean(np.abs(places - np.rint(places)) > 0.01)) if len(places) else 0.0


def _earliest(score: Score) -> int:
    return min(
        (int(track.notes.numpy()["time"].min()) for track in score.tracks if len(track.notes)), default=0
    )


def _names(parts: Sequence[tuple[str, int]]) -> list[str]:
    """Names of the tracks, else of their instruments, numbered where several are alike."""
    if parts == [("", VOICE)] * len(CHOIR):
        return list(CHOIR)
    told = [name.strip() or name_of(program) for name, program in parts]
    return [
        f"{name} {told[:n].count(name) + 1}" if told.count(name) > 1 else name for n, name in enumerate(told)
    ]


def _measures(
    score: Score, keys: Sequence[tuple[int, Key]], chords: Sequence[tuple[int, str]]
) -> list[Measure]:
    table = bar_table(score).tolist()
    missing = _upbeat(score, table)
    found = []
    for n, (start, length, numerator, denominator) in enumerate(table):
        lacks = missing if n == 0 else 0
        inside = range(start, start + length)
        found.append(
            Measure(
                start,
                length,
                (numerator, denominator),
                key_at(keys, start),
                lacks,
                [
                    (max(each.time - start, lacks), float(each.qpm))
                    for each in score.tempos
                    if each.time in inside
                ],
                [(max(at - start, lacks), symbol) for at, symbol in chords if at in inside],
            )
        )
    return found


def _upbeat(score: Score, table: list[list[int]]) -> int:
    """Ticks of silence that a first bar with an upbeat leaves out: at least half of it."""
    silent = _earliest(score)
    return silent if len(table) > 1 and 2 * silent >= table[0][1] else 0


def _staves(track: Any, measures: Sequence[Measure], clef: str | None) -> list[Staff]:
    notes = note_array(track, loudness=True)
    if track.is_drum:
        return [Staff("percussion", _written(notes, measures))]
    low = notes[:, 2] < MIDDLE_C
    if track.program in KEYBOARDS and not low.all() and notes[:, 2].min() < LOWEST_ON_ONE:
        return [
            Staff("treble", _written(notes[~low], measures)),
            Staff("bass", _written(notes[low], measures)),
        ]
    return [Staff(clef or _clef(notes[:, 2], track.program), _written(notes, measures))]


def _clef(pitches: np.ndarray, program: int) -> str:
    middle = float(np.median(pitches))
    if program == VIOLA:
        return "alto"
    if program in GUITARS or (program == VOICE and 50 <= middle < MIDDLE_C):
        return "treble8vb"
    return "treble" if middle >= 57 else "bass"


def _written(notes: np.ndarray, measures: Sequence[Measure]) -> list[list[list[Symbol]]]:
    """Symbols of the notes (n, 4) of a staff by measure and voice."""
    voices = [_cut(voice, measures) for voice in _voices(notes)] or [[[] for _ in measures]]
    found = []
    for n, measure in enumerate(measures):
        sounding = [voice[n] for voice in voices]
        found.append(
            [_with_rests(symbols, measure) if symbols or not k else [] for k, symbols in enumerate(sounding)]
        )
    return found


def _voices(notes: np.ndarray) -> list[list[tuple[int, int, tuple[int, ...], int]]]:
    """Lines of (onset, end, pitches, velocity) that do not overlap: notes that begin and end together are a
    chord; of what begins together the highest goes to the first voice that is free."""
    together: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for onset, length, pitch, loud in notes.tolist():
        together.setdefault((onset, onset + length), []).append((pitch, loud))
    voices: list[list[tuple[int, int, tuple[int, ...], int]]] = []
    for (onset, end), struck in sorted(together.items(), key=lambda each: (each[0][0], -max(each[1])[0])):
        pitches = tuple(sorted(pitch for pitch, _ in struck))
        chord = (onset, end, pitches, max(loud for _, loud in struck))
        free = next((voice for voice in voices if voice[-1][1] <= onset), None)
        if free is None:
            voices.append([chord])
        else:
            free.append(chord)
    return voices


def _cut(
    voice: Sequence[tuple[int, int, tuple[int, ...], int]], measures: Sequence[Measure]
) -> list[list[Symbol]]:
    """The notes of a line by measure, each of one note value, tied where it goes on."""
    found: list[list[Symbol]] = [[] for _ in measures]
    starts = np.array([measure.start for measure in measures])
    for onset, end, pitches, loud in voice:
        n = int(np.searchsorted(starts, onset, side="right")) - 1
        at = onset
        while at < end and n < len(measures):
            measure = measures[n]
            stop = min(end, measure.start + measure.length)
            for place, length in values(at - measure.start, stop - measure.start, measure.metre):
                begins = measure.start + place
                found[n].append(Symbol(place, length, pitches, loud, begins + length < end, begins > onset))
            at, n = stop, n + 1
    return found


def _with_rests(symbols: Sequence[Symbol], measure: Measure) -> list[Symbol]:
    """The symbols of a measure with rests between; a silent measure is one rest."""
    if not symbols:
        return [Symbol(measure.missing, measure.length - measure.missing)]
    found, at = [], measure.missing
    for symbol in [*symbols, Symbol(measure.length, 0)]:
        if at < symbol.onset:
            found += [Symbol(onset, length) for onset, length in values(at, symbol.onset, measure.metre)]
        found.append(symbol)
        at = symbol.onset + symbol.length
    return found[:-1]

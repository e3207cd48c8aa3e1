"""What a reader finds in a file, in one form for all readers: ours, music21, partitura, verovio, symusic."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import partitura
import verovio
from music21 import converter
from symusic import Score

from music.reading.files import decoded, quiet_stdout, read_file
from music.reading.kern import read_kern
from music.reading.musicxml import read_musicxml
from music.score.form import Limits, bar_table, note_array

VOICE, VOICES = 52, (52, 53, 54)  # programs of General MIDI
GRID = 24  # ticks a quarter: semiquavers and triplets are whole


@dataclass(frozen=True)
class Facts:
    """Of one file, in ticks of GRID from its first note. notes: (onset, length, pitch); barlines: after the
    first note; metres: in order, each change once; key: sharps of the first signature, 0 where there is none;
    programs: of the tracks that sound, drums -1, sorted, any voice 52. None where a reader does not tell."""

    notes: set[tuple[int, int, int]]
    barlines: set[int] | None = None
    metres: list[str] | None = None
    key: int | None = None
    programs: list[int] | None = None

    @property
    def onsets(self) -> set[tuple[int, int]]:
        return {(onset, pitch) for onset, _, pitch in self.notes}


def ours_as_written(path: Path) -> Facts:
    """MusicXML and kern as they stand on the page, as the other readers take them."""
    read = (lambda data: read_kern(decoded(data))) if path.suffix == ".krn" else read_musicxml
    return _of_score(replace(read(path.read_bytes()), order=[]).score()[0])


def ours_as_played(path: Path) -> Facts:
    (found,) = read_file(path.read_bytes(), path.name, Limits())
    return _of_score(found.score)  # type: ignore[union-attr]


def symusic(path: Path) -> Facts:
    with quiet_stdout():
        return _of_score(Score(path))


def with_verovio(path: Path) -> Facts:
    toolkit = verovio.toolkit(True)
    toolkit.loadFile(str(path))
    return _of_score(Score.from_midi(base64.b64decode(toolkit.renderToMIDI())))


def with_partitura(path: Path) -> Facts:
    parts = list(partitura.load_score(str(path)).parts)
    rows = [
        (float(row["onset_quarter"]), float(row["duration_quarter"]), int(row["pitch"]))
        for part in parts
        for row in part.note_array()
    ]
    first, own = min(row[0] for row in rows), parts[0]
    metres = [f"{m.beats}/{m.beat_type}" for m in own.iter_all(partitura.score.TimeSignature)]
    keys = [k.fifths for k in own.iter_all(partitura.score.KeySignature)]
    bars = [float(own.quarter_map(m.start.t)) for m in own.iter_all(partitura.score.Measure)]
    return Facts(
        _notes(rows, first),
        {_ticks(bar - first) for bar in bars if bar > first},
        _changes(metres),
        keys[0] if keys else 0,
    )


def with_music21(path: Path, played: bool = False) -> Facts:
    """played: with its repeats. Of MIDI it takes instruments from the names of tracks."""
    score: Any = converter.parse(path, quantizePost=False) if path.suffix == ".mid" else converter.parse(path)
    if played:
        score = score.expandRepeats()
    rows = []
    for part in score.parts:
        for note in part.stripTies().flatten().notes:
            if note.quarterLength and "ChordSymbol" not in note.classes:  # no grace notes, no symbols
                rows += [(float(note.offset), float(note.quarterLength), p.midi) for p in note.pitches]
    own = score.parts[0]
    first = min(row[0] for row in rows)
    signatures = list(own.recurse().getElementsByClass("TimeSignature"))
    keys = list(own.recurse().getElementsByClass("KeySignature"))
    sounding = [part for part in score.parts if part.flatten().notes]
    instruments: list[list[Any]] = [
        list(part.recurse().getElementsByClass("Instrument")) for part in sounding
    ]
    programs = [each[-1].midiProgram if each and path.suffix != ".mid" else None for each in instruments]
    known = [VOICE if program in VOICES else program for program in programs if program is not None]
    return Facts(
        _notes(rows, first),
        {_ticks(m.offset - first) for m in own.getElementsByClass("Measure") if float(m.offset) > first},
        _changes([each.ratioString for each in signatures]),
        keys[0].sharps if keys else 0,
        None if len(known) < len(programs) else sorted(known),
    )


def _of_score(score: Score) -> Facts:
    rows = [
        (onset / score.tpq, length / score.tpq, pitch)
        for track in score.tracks
        if len(track.notes)
        for onset, length, pitch in note_array(track).tolist()
    ]
    first = min(row[0] for row in rows)
    table = bar_table(score)
    return Facts(
        _notes(rows, first),
        {_ticks(start / score.tpq - first) for start in table[:, 0].tolist() if start / score.tpq > first},
        _changes([f"{n}/{d}" for n, d in table[:, 2:].tolist()]),
        score.key_signatures[0].key if len(score.key_signatures) else 0,
        sorted(-1 if track.is_drum else track.program for track in score.tracks if len(track.notes)),
    )


def _ticks(quarters: float) -> int:
    return round(float(quarters) * GRID)


def _notes(rows: Iterable[tuple[float, float, int]], first: float) -> set[tuple[int, int, int]]:
    return {(_ticks(onset - first), _ticks(length), pitch) for onset, length, pitch in rows if length}


def _changes(metres: list[str]) -> list[str]:
    return [metre for metre, _ in groupby(metres)]

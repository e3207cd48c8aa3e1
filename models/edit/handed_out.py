"""The file that an edit hands out, and the proof of its contract on the bytes: they are read again, and
every note outside the region and every event that is no note is compared."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from models.fill.request import ContractBroken
from music.reading.midi import MidiSource, read_source
from music.reading.midi_events import END_OF_TRACK, KEY, META, METRE, NOTE_OFF, NOTE_ON, TEMPO, MidiFile
from music.score.file_cells import FileCells, digest
from music.score.form import Limits, to_midi
from music.writing.midi_splice import spliced

ANY = Limits(max_bytes=2**31, max_quarters=2**31, max_notes=2**31, max_tracks=2**31)
SILENT = (NOTE_ON, NOTE_OFF)
MAPS = (TEMPO, METRE, KEY, END_OF_TRACK)  # follow the music where it moves


def handed_out(
    source: MidiSource | None,
    before: FileCells,
    after: FileCells,
    region: np.ndarray,
    bar_numbers: np.ndarray,
) -> bytes:
    """Bytes of an edit of the `region` (of `before`). Without `source`, a file of the score alone. Raises
    ContractBroken where they hold anything outside the region that was not there."""
    if source is None:
        return to_midi(after.score)
    midi = spliced(source, before, after, bar_numbers)
    back = _read_back(midi, after)
    numbered = np.zeros((after.shape[0], max(after.shape[1], region.shape[1])), dtype=bool)
    old = bar_numbers >= 0
    numbered[old, : region.shape[1]] = region[bar_numbers[old]]
    numbered[~old] = True
    there = FileCells(back.score, after.bars)
    tracks = before.shape[1]
    if digest(before, region) != digest(there, numbered, bar_numbers, tracks):
        raise ContractBroken("the file that would be handed out differs outside the region")
    played = any(
        (a.program, a.is_drum) != (b.program, b.is_drum)
        for a, b in zip(before.score.tracks, after.score.tracks, strict=False)
    )
    lost = _others(source.file) - _others(back.file)
    if lost and not played:
        raise ContractBroken(f"the file that would be handed out lacks {sum(lost.values())} events")
    return midi


def _read_back(midi: bytes, after: FileCells) -> MidiSource:
    """The file, read again; a track that has no notes any more is no track to a reader, and is put back."""
    if not after.score.note_num():
        raise ValueError("the edit would leave no note in the file: choose a smaller region, or keep a track")
    back = read_source(midi, ANY)
    for k, track in enumerate(after.score.tracks):
        if not len(track.notes):
            back.score.tracks.insert(k, track.copy())
    return back


def whole_out(
    source: MidiSource | None, before: FileCells, after: FileCells, ticks: Callable[[int], int] | None
) -> tuple[bytes, list[str]]:
    """Bytes of an operation of the whole score, and what they lack of the file."""
    if source is None:
        return to_midi(after.score), []
    if ticks is not None:
        return spliced(source, before, after, retime=ticks), []
    kinds = _others(source.file)
    lost = sum(kinds.values())
    warning = (
        f"{lost} events of the file other than notes (controllers, words, ..) do not follow and are left out"
    )
    return to_midi(after.score), [warning] if lost else []


def _others(file: MidiFile) -> "Counter[tuple[int, int, bytes]]":
    """Events that are no notes, by track, wherever they stand."""
    return Counter(
        (n, event.status, event.data)
        for n, events in enumerate(file.tracks)
        for event in events
        if event.kind not in SILENT and not (event.status == META and event.data[0] in MAPS)
    )

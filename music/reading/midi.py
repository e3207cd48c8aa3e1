"""MIDI: the events of a file as a score, and which event is which note, so that notes can be changed in
place.

What is decided here holds for ingest and uploads alike; docs/files.md has it as a table. A track of the score
is a channel of a track of the file that has notes, in the order of the file (within a track, of the
channels); it has one instrument, the last that any track has set for its port and channel up to its first
note.
"""

from collections import defaultdict, deque
from dataclasses import dataclass

import numpy as np
from symusic import KeySignature, Note, Score, Tempo, TimeSignature, Track

from music.reading.midi_events import (
    KEY,
    METRE,
    NOTE_OFF,
    NOTE_ON,
    PORT,
    PROGRAM_CHANGE,
    TEMPO,
    TRACK_NAME,
    Event,
    MidiFile,
    parse,
)
from music.score.errors import UnreadableScore
from music.score.form import FASTEST_QPM, METRE_DENOMINATORS, SLOWEST_QPM, Limits, check_limits

DRUMS = 9  # the channel of drums, from 0


@dataclass(frozen=True)
class TrackSource:
    """Where a track of the score is in the file. on, off: number of the event in its track that starts and
    ends each note, int64 (n,), in the order of the notes of the score; off is -1 where none ends it."""

    track: int
    port: int
    channel: int
    on: np.ndarray
    off: np.ndarray


@dataclass(frozen=True)
class MidiSource:
    """A score, the file it was read from, and the place of each of its tracks there."""

    file: MidiFile
    score: Score
    tracks: list[TrackSource]


def read_source(data: bytes, limits: Limits) -> MidiSource:
    """A score and its file from MIDI bytes, within limits. Raises UnreadableScore."""
    if len(data) > limits.max_bytes:
        raise UnreadableScore(f"the file has {len(data)} bytes; at most {limits.max_bytes} are read")
    file = parse(data)
    source = _source(file)
    if not source.tracks:
        raise UnreadableScore("; ".join(("the score has no notes", *file.damage)))
    check_limits(source.score, limits)
    return source


def _source(file: MidiFile) -> MidiSource:
    score = Score(file.ticks_per_quarter)
    ports = [port_of(events) for events in file.tracks]
    programs = _programs(file, ports)
    sources = []
    for n, events in enumerate(file.tracks):
        for channel, (on, off) in sorted(_notes(events).items()):
            first = min(events[i].tick for i in on)
            track = Track(
                _name(events), program=_in_force(programs[ports[n], channel], first), is_drum=channel == DRUMS
            )
            track.notes = _as_notes(events, on, off)
            score.tracks.append(track)
            sources.append(TrackSource(n, ports[n], channel, np.array(on), np.array(off)))
    _maps(file, score)
    return MidiSource(file, score, sources)


def port_of(events: list[Event]) -> int:
    """The port that a track of a file plays on."""
    return next((e.data[1] for e in events if e.is_meta(PORT) and len(e.data) > 1), 0)


def _name(events: list[Event]) -> str:
    found = next((e.data[1:] for e in events if e.is_meta(TRACK_NAME)), b"")
    try:
        return found.decode("utf-8").strip("\0 ")
    except UnicodeDecodeError:
        return found.decode("latin-1").strip("\0 ")


def _programs(file: MidiFile, ports: list[int]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """(tick, program) of each port and channel in order of time, whichever track they stand in."""
    found: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for port, events in zip(ports, file.tracks, strict=True):
        for event in events:
            if event.kind == PROGRAM_CHANGE:
                found[port, event.channel].append((event.tick, event.data[0]))
    for changes in found.values():
        changes.sort(key=lambda change: change[0])
    return found


def _in_force(changes: list[tuple[int, int]], tick: int) -> int:
    return next((program for at, program in reversed(changes) if at <= tick), 0)


def _notes(events: list[Event]) -> dict[int, tuple[list[int], list[int]]]:
    """Of each channel the events that start and end its notes; what starts first of a pitch ends first."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    sounding: dict[tuple[int, int], deque[int]] = defaultdict(deque)
    for i, event in enumerate(events):
        kind = event.status & 0xF0
        if kind == NOTE_ON and event.data[1]:
            on, off = found.setdefault(event.channel, ([], []))
            sounding[event.channel, event.data[0]].append(len(on))
            on.append(i)
            off.append(-1)
        elif kind in (NOTE_ON, NOTE_OFF) and event.status < 0xF0:
            waiting = sounding[event.channel, event.data[0]]
            if waiting:
                found[event.channel][1][waiting.popleft()] = i
    return found


def _as_notes(events: list[Event], on: list[int], off: list[int]) -> "Note":
    """A note that nothing ends sounds to the end of its track."""
    last = events[-1].tick
    start = np.array([events[i].tick for i in on], dtype=np.int32)
    end = np.array(
        [events[i].tick if i >= 0 else max(last, events[j].tick + 1) for j, i in zip(on, off, strict=True)]
    )
    pitch, velocity = (np.array([events[i].data[k] for i in on], dtype=np.int8) for k in (0, 1))
    return Note.from_numpy(start, (end - start).astype(np.int32), pitch, velocity)


def _maps(file: MidiFile, score: Score) -> None:
    """Tempos, metres and keys of all tracks; values that cannot be are left out (and stay in the file)."""
    events = sorted(
        (event for track in file.tracks for event in track if event.status == 0xFF), key=lambda e: e.tick
    )
    for event in events:
        kind, values = event.data[0], event.data[1:]
        if kind == TEMPO and len(values) == 3:
            mspq = int.from_bytes(values, "big")
            if 60e6 / FASTEST_QPM <= mspq <= 60e6 / SLOWEST_QPM:
                score.tempos.append(Tempo(event.tick, mspq=mspq))
        elif (
            kind == METRE and len(values) >= 2 and values[0] and 1 << min(values[1], 9) in METRE_DENOMINATORS
        ):
            score.time_signatures.append(TimeSignature(event.tick, values[0], 1 << values[1]))
        elif kind == KEY and len(values) == 2 and values[1] in (0, 1):
            fifths = int.from_bytes(values[:1], "big", signed=True)
            if -7 <= fifths <= 7:
                score.key_signatures.append(KeySignature(event.tick, fifths, values[1]))

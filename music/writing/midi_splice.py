"""A changed score put into the file it was read from: notes that went are taken out of its events, notes
that came are put in, and every other event stays as it was read, byte for byte.

Where the change moved bars (bars put before the first, another metre), all that stands in a bar moves with
it; what stands at the very start (instruments, tempo, names) stays there. Tempos, metres and keys are written
anew only where the change altered them.
"""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
from symusic import Score, Track

from music.reading.midi import DRUMS, MidiSource, TrackSource, port_of
from music.reading.midi_events import (
    END_OF_TRACK,
    KEY,
    META,
    METRE,
    NOTE_OFF,
    NOTE_ON,
    PROGRAM_CHANGE,
    TEMPO,
    TRACK_NAME,
    Event,
    MidiFile,
    to_bytes,
)
from music.score.file_cells import FileCells, notes_of

Moved = Callable[[int], int]
# order at one tick: ends of notes, what was there, what is new, the end of the track
FIRST, STANDING, LAST, END = range(4)
WORDS = (0x05, 0x06, 0x07)  # lyrics, markers, cues
BANKS = (0, 32)  # controllers that choose a bank of instruments


def spliced(
    source: MidiSource,
    before: FileCells,
    after: FileCells,
    bar_numbers: np.ndarray | None = None,
    retime: Moved | None = None,
) -> bytes:
    """The file of `source` with the notes of `after`. `before`: the score of `source`; its tracks are the
    first of `after`. bar_numbers: for each bar of `after` its bar in `before`, -1 for a new one; left out:
    the same bars. retime: where each tick goes (-1: nowhere) where the whole file is changed, all notes
    included. Raises ValueError where there is no room for another track."""
    numbers = np.arange(after.shape[0]) if bar_numbers is None else bar_numbers
    starts = before.bars[:, 0] if retime else _starts(before, after, numbers)
    moved = retime or _mover(before, starts)
    tracks = [[_placed(event, moved) for event in events] for events in source.file.tracks]
    channels = _Channels(source.file)
    unended: list[tuple[int, int, Event]] = []
    for k, place in enumerate(source.tracks):
        old, new = notes_of(before.score.tracks[k]), notes_of(after.score.tracks[k])
        kept = old.copy()
        bar = before.bar_of(old[:, 0])
        kept[:, 0] += starts[bar] - before.bars[bar, 0]
        gone, come = (set(range(len(old))), new) if retime else _changes(kept, new)
        events = tracks[place.track]
        for i in range(len(old)):
            ticks = (-1, -1) if i in gone else (int(kept[i, 0]), int(kept[i, :2].sum()))
            for number, tick in zip((int(place.on[i]), int(place.off[i])), ticks, strict=True):
                if number >= 0:
                    events[number] = (tick, STANDING, events[number][2])
            if place.off[i] < 0 and i not in gone:
                end = Event(ticks[1], NOTE_OFF | place.channel, bytes([int(old[i, 2]), 64]))
                unended.append((place.track, ticks[1], end))
        _drop_strays(events, place, come)
        channel = place.channel
        if _played(before.score.tracks[k]) != _played(after.score.tracks[k]):
            channel = channels.free(place.port, after.score.tracks[k])
            _to_channel(events, place.channel, channel)
            events += _set_up(after.score.tracks[k], channel)
        events += _new_notes(come, channel)
    for k in range(len(source.tracks), len(after.score.tracks)):
        _add_track(tracks, source.file, after.score.tracks[k], channels)
    for track, tick, end in unended:  # it sounded to the end of its track, which may lie elsewhere now
        if max(placed[0] for placed in tracks[track]) > tick:
            tracks[track].append((tick, FIRST, end))
    _write_maps(tracks, before.score, after.score, moved)
    return to_bytes(
        MidiFile(source.file.format, source.file.ticks_per_quarter, [_in_order(events) for events in tracks])
    )


Placed = tuple[int, int, Event]  # tick (-1: taken out), order at that tick


def _starts(before: FileCells, after: FileCells, numbers: np.ndarray) -> np.ndarray:
    """Where each bar of `before` starts in `after`; a bar that went keeps its distance to the one before."""
    starts = before.bars[:, 0].copy()
    for b, old in enumerate(numbers.tolist()):
        if old >= 0:
            starts[old] = after.bars[b, 0]
    return starts


def _placed(event: Event, moved: Moved) -> Placed:
    """Words go with the music that they are sung to; what sets the music up stays at the start."""
    if event.status == META and event.data[0] in WORDS:
        return max(moved(event.tick + 1) - 1, -1), STANDING, event
    return moved(event.tick), STANDING, event


def _mover(before: FileCells, starts: np.ndarray) -> Moved:
    old = before.bars[:, 0]
    shift = starts - old
    room = np.append(np.diff(starts), np.iinfo(np.int64).max)

    def moved(tick: int) -> int:
        if tick == 0:
            return 0
        b = max(int(np.searchsorted(old, tick, side="right")) - 1, 0)
        return int(starts[b] + min(tick - int(old[b]), int(room[b])))

    return (lambda tick: tick) if not shift.any() and (room >= before.bars[:, 1]).all() else moved


def _changes(kept: np.ndarray, new: np.ndarray) -> tuple[set[int], np.ndarray]:
    """Numbers of the notes of `kept` that are not in `new`, and the notes of `new` that are not in `kept`."""
    there: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, row in enumerate(kept.tolist()):
        there[tuple(row)].append(i)
    come = []
    for row in new.tolist():
        waiting = there.get(tuple(row))
        if waiting:
            waiting.pop(0)
        else:
            come.append(row)
    gone = {i for waiting in there.values() for i in waiting}
    return gone, np.array(come, dtype=np.int64).reshape(-1, 4)


def _drop_strays(events: list[Placed], place: TrackSource, new: np.ndarray) -> None:
    """Take out what ends no note where it would cut a new one."""
    ends = set(place.off.tolist())
    for n, (tick, order, event) in enumerate(events):
        ending = event.kind == NOTE_OFF or (event.kind == NOTE_ON and not event.data[1])
        if n in ends or not ending or event.channel != place.channel:
            continue
        same = new[new[:, 2] == event.data[0]]
        if ((same[:, 0] < tick) & (tick < same[:, 0] + same[:, 1])).any():
            events[n] = (-1, order, event)


def _new_notes(notes: np.ndarray, channel: int) -> list[Placed]:
    found: list[Placed] = []
    for onset, duration, pitch, velocity in notes.tolist():
        loudness = min(max(velocity, 1), 127)
        found.append((onset, LAST, Event(onset, NOTE_ON | channel, bytes([pitch, loudness]))))
        end = onset + duration
        found.append((end, FIRST, Event(end, NOTE_OFF | channel, bytes([pitch, 64]))))
    return found


def _played(track: Track) -> tuple[int, bool]:
    return (0 if track.is_drum else int(track.program)), bool(track.is_drum)


class _Channels:
    """Channels that no track uses, by port."""

    def __init__(self, file: MidiFile) -> None:
        self._used: dict[int, set[int]] = defaultdict(set)
        for events in file.tracks:
            self._used[port_of(events)] |= {event.channel for event in events if event.status < 0xF0}

    def free(self, port: int, track: Track) -> int:
        """A channel for a track on this port; past the last free one the highest is shared."""
        if track.is_drum:
            return DRUMS
        channel = next((c for c in range(16) if c != DRUMS and c not in self._used[port]), 15)
        self._used[port].add(channel)
        return channel

    def above(self, port: int, track: Track) -> int | None:
        """A free channel above all that are used: so that it is read as the last track of its chunk."""
        if track.is_drum:
            return DRUMS if not any(c >= DRUMS for c in self._used[port]) else None
        channel = next((c for c in range(max(self._used[port], default=-1) + 1, 16) if c != DRUMS), None)
        if channel is not None:
            self._used[port].add(channel)
        return channel


def _set_up(track: Track, channel: int) -> list[Placed]:
    if track.is_drum:
        return []
    return [(0, FIRST, Event(0, PROGRAM_CHANGE | channel, bytes([int(track.program) & 0x7F])))]


def _to_channel(events: list[Placed], old: int, new: int) -> None:
    """Put the events of a channel on another, without what chooses its instrument."""
    for n, (tick, order, event) in enumerate(events):
        if event.status >= 0xF0 or event.channel != old:
            continue
        instrument = event.kind == PROGRAM_CHANGE or (event.kind == 0xB0 and event.data[0] in BANKS)
        events[n] = (-1 if instrument else tick, order, Event(event.tick, event.kind | new, event.data))


def _add_track(tracks: list[list[Placed]], file: MidiFile, track: Track, channels: _Channels) -> None:
    """A track after the last: in a file of format 0 a channel above the others."""
    notes = notes_of(track)
    if file.format == 0:
        channel = channels.above(0, track)
        if channel is None:
            raise ValueError(
                "the file has one track (format 0) and no channel left for another instrument: save it as "
                "format 1, or name a track to replace"
            )
        tracks[0] += [*_set_up(track, channel), *_new_notes(notes, channel)]
        return
    channel = channels.free(0, track)
    name = [(0, FIRST, Event(0, META, bytes([TRACK_NAME]) + track.name.encode()))] if track.name else []
    end = [(0, END, Event(0, META, bytes([END_OF_TRACK])))]
    tracks.append([*name, *_set_up(track, channel), *_new_notes(notes, channel), *end])


def _write_maps(tracks: list[list[Placed]], before: Score, after: Score, moved: Moved) -> None:
    """Tempos, metres and keys where they are others than those of before, moved with their bars."""
    for kind, old, new in (
        (TEMPO, _tempos(before), _tempos(after)),
        (METRE, _metres(before), _metres(after)),
        (KEY, _keys(before), _keys(after)),
    ):
        if [(moved(tick), value) for tick, value in old] == new:
            continue
        for n, events in enumerate(tracks):
            tracks[n] = [(-1 if event.is_meta(kind) else tick, order, event) for tick, order, event in events]
        tracks[0] = [
            *((tick, FIRST, Event(tick, META, bytes([kind]) + value)) for tick, value in new),
            *tracks[0],
        ]


def _tempos(score: Score) -> list[tuple[int, bytes]]:
    return [(int(t.time), int(t.mspq).to_bytes(3, "big")) for t in score.tempos]


def _metres(score: Score) -> list[tuple[int, bytes]]:
    return [
        (int(m.time), bytes([m.numerator, m.denominator.bit_length() - 1, 24, 8]))
        for m in score.time_signatures
    ]


def _keys(score: Score) -> list[tuple[int, bytes]]:
    return [(int(k.time), bytes([k.key & 0xFF, k.tonality])) for k in score.key_signatures]


def _in_order(events: list[Placed]) -> list[Event]:
    """Events by tick with what was there in the order of the file, ending in one end of track."""
    left = [placed for placed in events if placed[0] >= 0]
    ends = [event for _, _, event in left if event.is_meta(END_OF_TRACK)]
    left = [placed for placed in left if not placed[2].is_meta(END_OF_TRACK)]
    left.sort(key=lambda placed: placed[:2])
    found = [Event(tick, event.status, event.data) for tick, _, event in left]
    last = max([*(event.tick for event in found[-1:]), *(end.tick for end in ends)], default=0)
    return [*found, Event(last, META, bytes([END_OF_TRACK]))]

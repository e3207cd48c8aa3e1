"""Standard MIDI files as events and bytes: everything that is in a file is kept as it was read.

Libraries decode events into objects and refuse or repair what they do not know (a key signature of 128 flats,
a name in Shift-JIS); here an event is its tick and its bytes, so that a file can be changed in one place and
given back with everything else as it was. docs/files.md has what is done with each kind of damage.
"""

from dataclasses import dataclass

from music.score.errors import UnreadableScore

NOTE_OFF, NOTE_ON, PROGRAM_CHANGE = 0x80, 0x90, 0xC0
META, SYSEX, SYSEX_MORE = 0xFF, 0xF0, 0xF7
TEXTS = range(0x01, 0x10)
TRACK_NAME, PORT, END_OF_TRACK, TEMPO, METRE, KEY = 0x03, 0x21, 0x2F, 0x51, 0x58, 0x59
_DATA_BYTES = {0x80: 2, 0x90: 2, 0xA0: 2, 0xB0: 2, 0xC0: 1, 0xD0: 1, 0xE0: 2}
_SYSTEM_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, 0xF8: 0, 0xFA: 0, 0xFB: 0, 0xFC: 0, 0xFE: 0}


@dataclass(frozen=True, slots=True)
class Event:
    """tick: from the start of its track. status: its first byte (running status resolved). data: what
    follows; of a meta event its type and then its text or values, of a system exclusive its bytes; lengths
    left out."""

    tick: int
    status: int
    data: bytes

    @property
    def kind(self) -> int:
        """Status without channel; of a meta event META."""
        return self.status & 0xF0 if self.status < 0xF0 else self.status

    @property
    def channel(self) -> int:
        return self.status & 0x0F

    def is_meta(self, kind: int) -> bool:
        return self.status == META and self.data[0] == kind


@dataclass(frozen=True)
class MidiFile:
    """Events of each track in the order of the file. ticks_per_quarter: of the header. damage: what was wrong
    and where, in words."""

    format: int
    ticks_per_quarter: int
    tracks: list[list[Event]]
    damage: tuple[str, ...] = ()


def parse(data: bytes) -> MidiFile:
    """Raises UnreadableScore for what is no MIDI file, SMPTE time, and files of format 2."""
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        start = data.find(b"MThd")
        data = data[start:] if start >= 0 else b""
    if data[:4] != b"MThd":
        raise UnreadableScore("not a MIDI file: it does not start with MThd" if data else "the file is empty")
    if len(data) < 14:
        raise UnreadableScore("damaged MIDI file: it ends within its header")
    size, kind, division = (int.from_bytes(data[a:b], "big") for a, b in ((4, 8), (8, 10), (12, 14)))
    if kind > 2 or size < 6:
        raise UnreadableScore(f"damaged MIDI file: its header names format {kind}, known are 0 and 1")
    if kind == 2:
        raise UnreadableScore(
            "a MIDI file of format 2 holds pieces of their own side by side: save each track as its own file"
        )
    if division & 0x8000 or not division:
        raise UnreadableScore(
            "the file gives no ticks per quarter (SMPTE time is not supported): export it with musical time"
        )
    tracks: list[list[Event]] = []
    damage: list[str] = []
    at = 8 + size
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        if data[at : at + 4] == b"MTrk":
            events, wrong = _track(data[at + 8 : at + 8 + length])
            if at + 8 + length > len(data):
                wrong = wrong or "the file ends within it"
            if wrong:
                damage.append(f"track {len(tracks) + 1}: {wrong}")
            tracks.append(events)
        at += 8 + length
    if not tracks:
        raise UnreadableScore("damaged MIDI file: it has no tracks")
    return MidiFile(kind, division, tracks, tuple(damage))


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends. Raises IndexError past the end."""
    value = 0
    for _ in range(4):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return value, at


def _track(data: bytes) -> tuple[list[Event], str]:
    """Events up to the end or to what cannot be read, and what that was."""
    events: list[Event] = []
    at = tick = status = 0
    size = len(data)
    try:
        while at < size:
            delta, at = _number(data, at)
            tick += delta
            byte = data[at]
            if byte < 0x80:
                if not status:
                    return events, f"byte {at} is no event"
                byte = status
            else:
                at += 1
            if byte < 0xF0:
                status, end = byte, at + _DATA_BYTES[byte & 0xF0]
                if end > size:
                    return events, "it ends within an event"
                values = data[at:end]
                if max(values) > 0x7F:
                    return events, f"byte {at} is no value of an event"
                events.append(Event(tick, byte, values))
            elif byte == META:
                kind = data[at : at + 1]
                length, begin = _number(data, at + 1)
                end = begin + length
                events.append(Event(tick, byte, kind + data[begin:end]))
                if kind[0] == END_OF_TRACK:
                    return events, ""
            elif byte in (SYSEX, SYSEX_MORE):
                length, begin = _number(data, at)
                end = begin + length
                events.append(Event(tick, byte, data[begin:end]))
            elif byte in _SYSTEM_BYTES:
                end = at + _SYSTEM_BYTES[byte]
                events.append(Event(tick, byte, data[at:end]))
            else:
                return events, f"byte {at - 1} is no event"
            at = end
    except IndexError:
        return events, "it ends within an event"
    return events, "it has no end"


def without_text(file: MidiFile) -> MidiFile:
    """The file without names, words, markers and notices."""
    kept = [
        [event for event in events if event.status != META or event.data[0] not in TEXTS]
        for events in file.tracks
    ]
    return MidiFile(file.format, file.ticks_per_quarter, kept)


def _written(value: int) -> bytes:
    found = [value & 0x7F]
    while value := value >> 7:
        found.append(value & 0x7F | 0x80)
    return bytes(reversed(found))


def to_bytes(file: MidiFile) -> bytes:
    """A file of these events, without running status; a track that has no end gets one."""
    chunks = [
        b"MThd" + b"".join(n.to_bytes(k, "big") for n, k in ((6, 4), (file.format, 2), (len(file.tracks), 2)))
    ]
    chunks.append(file.ticks_per_quarter.to_bytes(2, "big"))
    for events in file.tracks:
        out = bytearray()
        now = 0
        for event in events:
            out += _written(event.tick - now)
            out.append(event.status)
            if event.status == META:
                out += event.data[:1] + _written(len(event.data) - 1) + event.data[1:]
            elif event.status in (SYSEX, SYSEX_MORE):
                out += _written(len(event.data)) + event.data
            else:
                out += event.data
            now = event.tick
        if not events or not events[-1].is_meta(END_OF_TRACK):
            out += bytes([0, META, END_OF_TRACK, 0])
        chunks.append(b"MTrk" + len(out).to_bytes(4, "big") + bytes(out))
    return b"".join(chunks)

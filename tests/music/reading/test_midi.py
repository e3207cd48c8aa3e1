"""Kinds of MIDI files that other programs leave, each built here."""

import io

import mido
import pytest

from music.reading.files import read_midi
from music.score.errors import UnreadableScore
from music.score.form import Limits


def read(song: mido.MidiFile) -> "list[tuple[int, bool, list[tuple[int, int, int]]]]":
    """Program, whether drums, and notes (onset, length, pitch) of every track, in ticks."""
    file = io.BytesIO()
    song.save(file=file)
    score = read_midi(file.getvalue(), Limits())
    return [
        (track.program, track.is_drum, [(n.time, n.duration, n.pitch) for n in track.notes])
        for track in score.tracks
    ]


def struck(channel: int, *pitches: int, off: bool = True) -> list[mido.Message]:
    """Crotchets, one after another."""
    found = []
    for pitch in pitches:
        found.append(mido.Message("note_on", channel=channel, note=pitch, velocity=80, time=0))
        found.append(mido.Message("note_off", channel=channel, note=pitch, time=480))
    return found if off else [message for message in found if message.type == "note_on"]


def song(*tracks: list[mido.Message], kind: int = 1) -> mido.MidiFile:
    made = mido.MidiFile(type=kind, ticks_per_beat=480)
    for events in tracks:
        made.tracks.append(mido.MidiTrack(events))
    return made


def test_programs_may_stand_in_a_track_of_their_own() -> None:
    setup = [mido.Message("program_change", channel=0, program=40)]
    assert [row[:2] for row in read(song(setup, struck(0, 60, 62)))] == [(40, False)]


def test_a_channel_of_another_port_is_another_instrument() -> None:
    first = [mido.Message("program_change", channel=0, program=40), *struck(0, 60)]
    second = [
        mido.MetaMessage("midi_port", port=1),
        mido.Message("program_change", channel=0, program=73),
        *struck(0, 72),
    ]
    assert [row[:2] for row in read(song(first, second))] == [(40, False), (73, False)]


def test_words_are_no_track() -> None:
    words = [mido.MetaMessage("lyrics", text="la", time=480) for _ in range(4)]
    assert len(read(song(struck(0, 60, 62, 64, 65), words))) == 1


def test_a_note_without_an_end_sounds_to_the_end_of_its_track() -> None:
    events = [*struck(0, 60, off=False), mido.MetaMessage("end_of_track", time=960)]
    assert read(song(events)) == [(0, False, [(0, 960, 60)])]


def test_a_file_of_pieces_side_by_side_is_refused_with_what_to_do() -> None:
    with pytest.raises(UnreadableScore, match="save each track as its own file"):
        read(song(struck(0, 60, 62), struck(0, 72, 74), kind=2))


def test_ticks_of_seconds_are_refused_with_the_reason() -> None:
    file = io.BytesIO()
    song(struck(0, 60)).save(file=file)
    data = bytearray(file.getvalue())
    data[12:14] = bytes([0xE7, 40])  # 25 frames a second of 40 ticks, instead of ticks a quarter
    with pytest.raises(UnreadableScore, match="(?i)smpte|seconds|frames"):
        read_midi(bytes(data), Limits())

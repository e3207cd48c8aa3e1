"""Kinds of MIDI files that other programs leave, each built here."""

import io

import mido
import pytest

from music.analysis.descriptors import histograms
from music.reading.files import read_midi
from music.score.errors import UnreadableScore
from music.score.form import Limits, bar_table, normalise
from music.score.keys import estimate_key


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


def test_a_key_that_is_none_does_not_name_the_key() -> None:
    song_in_c = song(struck(0, 60, 62, 64, 65, 67, 64, 60, 60))
    file = io.BytesIO()
    song_in_c.save(file=file)
    sharps_of_no_key = bytes([0, 0xFF, 0x59, 2, 0x80, 0])
    data = bytearray(file.getvalue())
    start = data.index(b"MTrk")
    length = int.from_bytes(data[start + 4 : start + 8], "big") + len(sharps_of_no_key)
    data[start + 4 : start + 8] = length.to_bytes(4, "big")
    data[start + 8 : start + 8] = sharps_of_no_key
    score = read_midi(bytes(data), Limits())
    assert not score.key_signatures
    normal = normalise(score, ticks_per_quarter=12, velocity=80)
    assert estimate_key(histograms(normal)["pitch_class_histogram"], None)[0] == "C major"


def test_a_note_of_no_length_stays_one_and_takes_no_other_end() -> None:
    events = [
        mido.Message("note_on", note=72, velocity=80),
        mido.Message("note_off", note=72),
        mido.Message("note_on", note=72, velocity=80, time=480),
        mido.Message("note_off", note=72, time=480),
    ]
    assert read(song(events))[0][2] == [(0, 0, 72), (480, 480, 72)]


def test_metres_and_tempos_stand_where_they_are_written() -> None:
    def metre(numerator: int, denominator: int, time: int) -> mido.MetaMessage:
        return mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator, time=time)

    setup = [
        metre(2, 2, 0),
        mido.MetaMessage("set_tempo", tempo=1000000, time=0),
        metre(7, 4, 4 * 480),
        mido.MetaMessage("set_tempo", tempo=500000, time=0),
        metre(4, 4, 7 * 480),
    ]
    file = io.BytesIO()
    song(setup, struck(0, *range(60, 75))).save(file=file)
    score = read_midi(file.getvalue(), Limits())
    assert bar_table(score).tolist() == [[0, 1920, 2, 2], [1920, 3360, 7, 4], [5280, 1920, 4, 4]]
    assert [(tempo.time, round(tempo.qpm)) for tempo in score.tempos] == [(0, 60), (1920, 120)]


def test_tempos_that_cannot_be_are_left_out() -> None:
    file = io.BytesIO()
    song(
        [mido.MetaMessage("set_tempo", tempo=1), mido.MetaMessage("set_tempo", tempo=600000)], struck(0, 60)
    ).save(file=file)
    assert [round(tempo.qpm) for tempo in read_midi(file.getvalue(), Limits()).tempos] == [100]


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

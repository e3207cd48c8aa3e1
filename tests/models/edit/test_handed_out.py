"""The bytes of an edited file, read by another reader (mido): all that is not a note of the region is as it
was."""

import io
from collections import Counter
from typing import Any

import mido
import numpy as np
import pytest

from models.decoding.torch_decoder import TorchDecoder
from models.edit.by_rule import RULES, Rule
from models.edit.edit import LIMITS, apply_rule, edit_file
from models.edit.tasks import Edit
from models.fill.fill import fill
from models.network.config import sized
from models.network.decoder import Network
from models.tokens.tokenizer import CellTokenizer
from music.reading.midi import read_source
from music.score.file_cells import FileCells
from tests.conftest import tokenizer_of

BAR = 1920


def file_of_a_band() -> bytes:
    """Programs in a setup track, two ports, words in Latin-1, a program change in the middle, controllers,
    bends, pressure and sysex, a note held over barlines and one that is struck again while it sounds."""
    song = mido.MidiFile(ticks_per_beat=480, charset="latin-1")
    setup, tune, other = mido.MidiTrack(), mido.MidiTrack(), mido.MidiTrack()
    song.tracks.extend([setup, tune, other])
    setup.append(mido.MetaMessage("copyright", text="\xa9 1999 Z\xf6e", time=0))
    setup.append(mido.MetaMessage("set_tempo", tempo=652174, time=0))
    setup.append(mido.MetaMessage("time_signature", numerator=4, denominator=4, time=0))
    setup.append(mido.Message("sysex", data=(0x7E, 0x7F, 9, 1), time=0))
    setup.append(mido.Message("program_change", channel=0, program=40, time=0))
    setup.append(mido.Message("program_change", channel=1, program=42, time=0))
    setup.append(mido.MetaMessage("marker", text="B", time=2 * BAR))
    setup.append(mido.MetaMessage("set_tempo", tempo=500000, time=BAR))
    place(
        tune,
        [(480 * i, 470, 62 + (i * 5) % 12, 50 + i) for i in range(24)]
        + [(BAR - 480, 2 * BAR, 84, 99)]
        + [(3 * BAR + 100, 960, 90, 70), (3 * BAR + 300, 200, 90, 71)],
        [
            (0, mido.MetaMessage("track_name", name="Vi\xf3l")),
            (0, mido.MetaMessage("lyrics", text="la")),
            (BAR + 10, mido.Message("control_change", channel=0, control=64, value=127)),
            (BAR + 20, mido.Message("pitchwheel", channel=0, pitch=812)),
            (BAR + 30, mido.Message("aftertouch", channel=0, value=31)),
            (BAR + 40, mido.Message("polytouch", channel=0, note=62, value=11)),
            (5 * BAR, mido.Message("program_change", channel=0, program=73)),
        ],
        0,
    )
    place(
        other,
        [(960 * i, 950, 43 + (i * 7) % 12, 88) for i in range(12)],
        [(0, mido.MetaMessage("midi_port", port=1)), (0, mido.MetaMessage("text", text="x"))],
        1,
    )
    other.insert(0, mido.Message("program_change", channel=1, program=32, time=0))
    data = io.BytesIO()
    song.save(file=data)
    return data.getvalue()


def place(track: Any, notes: list[tuple[int, int, int, int]], others: list[Any], channel: int) -> None:
    events = [(tick, 0, message) for tick, message in others]
    for onset, length, pitch, velocity in notes:
        told = {"channel": channel, "note": pitch}
        events.append((onset, 2, mido.Message("note_on", velocity=velocity, **told)))
        events.append((onset + length, 1, mido.Message("note_off", velocity=30, **told)))
    now = 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - now))
        now = tick


def heard(data: bytes) -> tuple[list[Counter[Any]], list[Counter[Any]]]:
    """By track: (tick, message) of all that is no note, and (onset, length, channel, pitch, velocity) of
    notes, as mido reads them."""
    song = mido.MidiFile(file=io.BytesIO(data), charset="latin-1")
    others, notes = [], []
    for track in song.tracks:
        now, sounding = 0, dict[Any, list[Any]]()
        rest, found = Counter[Any](), Counter[Any]()
        for message in track:
            now += message.time
            if message.type == "note_on" and message.velocity:
                sounding.setdefault((message.channel, message.note), []).append((now, message.velocity))
            elif message.type in ("note_on", "note_off"):
                begun, velocity = sounding[message.channel, message.note].pop(0)
                found[begun, now - begun, message.channel, message.note, velocity] += 1
            elif message.type != "end_of_track":
                rest[now, str(message.copy(time=0))] += 1
        others.append(rest)
        notes.append(found)
    return others, notes


def outside(notes: Counter[Any], bars: tuple[int, int]) -> Counter[Any]:
    return Counter({note: n for note, n in notes.items() if not bars[0] * BAR <= note[0] < bars[1] * BAR})


LOCAL = {
    "transpose": Rule(semitones=2),
    "quantise": Rule(grid="1/8"),
    "swing": Rule(),
    "humanise": Rule(seed=3),
    "invert": Rule(),
    "retrograde": Rule(),
}


@pytest.mark.parametrize("operation", sorted(LOCAL))
@pytest.mark.parametrize("bars", [(0, 1), (1, 3), (2, 6)])
def test_an_edit_by_rule_is_a_splice(operation: str, bars: tuple[int, int]) -> None:
    data = file_of_a_band()
    source = read_source(data, LIMITS)
    assert RULES[operation].local
    answer = apply_rule(FileCells.of(source.score), operation, LOCAL[operation], bars, (0,), source)
    (others, notes), (others_after, notes_after) = heard(data), heard(answer.midi)
    assert others_after == others
    assert notes_after[2] == notes[2]
    assert outside(notes_after[1], bars) == outside(notes[1], bars)
    assert answer.contract.kept


def test_a_whole_file_that_is_not_changed_comes_back_with_every_event() -> None:
    data = file_of_a_band()
    source = read_source(data, LIMITS)
    answer = apply_rule(FileCells.of(source.score), "transpose", Rule(semitones=0), None, None, source)
    assert heard(answer.midi) == heard(data)


@pytest.mark.parametrize("operation", ["infill", "vary", "simplify", "harmonise", "continue"])
def test_an_edit_by_the_model_is_a_splice(tokenizer: CellTokenizer, operation: str) -> None:
    import torch

    torch.manual_seed(0)
    network = Network(sized("tiny", vocabulary=len(tokenizer), context=256)).eval()
    decoder = TorchDecoder(network, 8)
    data = file_of_a_band()
    source = read_source(data, LIMITS)
    tracks = None if operation == "harmonise" else (0,)
    edit = Edit(operation, (1, 3), tracks, strength=1.0, length=2, seed=1)
    file = FileCells.of(source.score)
    (answer,) = edit_file(tokenizer, {}, lambda r: fill(decoder, tokenizer, r), file, edit, 1, source)
    (others, notes), (others_after, notes_after) = heard(data), heard(answer.midi)
    region = (len(file.bars), 99) if operation == "continue" else (1, 3)
    assert [each - more for each, more in zip(others, others_after, strict=False)] == [Counter()] * 3
    assert notes_after[2] == notes[2]
    assert outside(notes_after[1], region) == outside(notes[1], region)
    if operation == "harmonise":
        voices = read_source(answer.midi, LIMITS).score.tracks[2:]
        assert [voice.program for voice in voices] == [40] * len(voices)
        assert voices
    else:
        assert others_after == others
        new = notes_after[1] - notes[1]
        assert len(new) > 1
        loud = [velocity for _, _, _, _, velocity in new]
        assert set(loud) <= {note[4] for note in notes[1]}


def test_a_kit_stays_one_and_a_model_without_drums_says_so(tokenizer: CellTokenizer) -> None:
    import torch

    song = mido.MidiFile(ticks_per_beat=480)
    song.tracks.extend([mido.MidiTrack(), mido.MidiTrack()])
    place(song.tracks[0], [(480 * i, 240, 36 + 2 * (i % 2), 90) for i in range(32)], [], 9)
    bass = [(0, mido.Message("program_change", channel=1, program=33))]
    place(song.tracks[1], [(960 * i, 900, 40 + i % 5, 70) for i in range(16)], bass, 1)
    data = io.BytesIO()
    song.save(file=data)
    source = read_source(data.getvalue(), LIMITS)
    torch.manual_seed(0)
    network = Network(sized("tiny", vocabulary=len(tokenizer), context=256)).eval()
    decoder = TorchDecoder(network, 8)
    edit, file = Edit("infill", (4, 8), (0,), seed=1), FileCells.of(source.score)
    (answer,) = edit_file(tokenizer, {}, lambda r: fill(decoder, tokenizer, r), file, edit, 1, source)
    (others, notes), (others_after, notes_after) = heard(data.getvalue()), heard(answer.midi)
    assert others_after == others
    assert notes_after[1] == notes[1]
    assert outside(notes_after[0], (4, 8)) == outside(notes[0], (4, 8))
    assert {channel for _, _, channel, _, _ in notes_after[0]} == {9}
    assert len(answer.file.bars) == 8
    with pytest.raises(ValueError, match="drums"):
        edit_file(tokenizer_of([0]), {}, lambda r: fill(decoder, tokenizer, r), file, edit, 1, source)


def test_new_notes_are_as_loud_as_those_around_them(tokenizer: CellTokenizer) -> None:
    import torch

    torch.manual_seed(0)
    network = Network(sized("tiny", vocabulary=len(tokenizer), context=256)).eval()
    decoder = TorchDecoder(network, 8)
    source = read_source(file_of_a_band(), LIMITS)
    file = FileCells.of(source.score)
    edit = Edit("infill", (2, 4), (0,), seed=2)
    (answer,) = edit_file(tokenizer, {}, lambda r: fill(decoder, tokenizer, r), file, edit, 1, source)
    new = answer.file.notes(0)
    inside = new[(new[:, 0] >= 2 * BAR) & (new[:, 0] < 4 * BAR)]
    around = np.interp(inside[:, 0], [480 * i for i in range(24)], [50 + i for i in range(24)])
    assert np.abs(inside[:, 3] - around).max() <= 25
    assert len(set(inside[:, 3].tolist())) > 2


def test_ends_of_no_note_do_not_cut_what_is_new() -> None:
    song = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    song.tracks.append(track)
    stray = [(tick, mido.Message("note_off", note=60, velocity=0)) for tick in (500, 2 * BAR + 10)]
    notes = [(0, 470, 60, 80), (1400, 480, 60, 80), (BAR, BAR, 64, 80), (2 * BAR, 480, 62, 80)]
    place(track, notes, stray, 0)
    file = io.BytesIO()
    song.save(file=file)
    source = read_source(file.getvalue(), LIMITS)
    answer = apply_rule(FileCells.of(source.score), "retrograde", Rule(), (0, 1), (0,), source)
    after = mido.MidiFile(file=io.BytesIO(answer.midi))
    now, lengths, begun = 0, [], 0
    for message in after.tracks[0]:
        now += message.time
        if message.type == "note_on" and message.note == 60:
            begun = now
        elif message.type == "note_off" and message.note == 60 and begun >= 0:
            lengths.append(now - begun)
            begun = -1
    assert lengths == [480, 470]  # the end at 500 would have cut the first

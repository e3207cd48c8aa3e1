"""Edits of files as people have them: `python -m benchmarks.edit_files FOLDER`, of MIDI files.

Every second file is mutated first: other resolutions, timing as if played, notes that are struck again while
they sound, controllers, bends, words, markers and sysex, program changes in mid-track, tracks of one file put
together, ports. The operations by rule and four by the model (the champion) change a random region; what
comes out is read by mido and compared with what went in: every note outside the region, every other event,
and programs. Of operations of the whole file, programs are compared.
"""

import argparse
import io
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mido

from benchmarks import report
from models.bundle import Bundle
from models.edit.by_rule import RULES, Rule
from models.edit.edit import LIMITS, Answer, apply_rule, edit_file
from models.edit.tasks import Edit
from models.fill.fill import fill
from music.reading.midi import MidiSource, read_source
from music.score.errors import UnreadableScore
from music.score.file_cells import EARLY, FileCells
from pipelines.release.versions import champion_bundle

FILES, SEED = 500, 1
MOST_BYTES = 300_000
BY_MODEL = ("infill", "vary", "elaborate", "continue")
OPTIONS = {
    "transpose": Rule(semitones=2),
    "quantise": Rule(grid="1/8"),
    "tempo": Rule(qpm=93),
    "stretch": Rule(factor=2),
    "metre": Rule(metre="3/4"),
}
MAPPED = tuple(name for name, rule in RULES.items() if not rule.local)  # of the whole file
NO_NOTE = "a note off of no note"
NEW_TRACKS = ("split", "merge")  # hand out the score alone, in other tracks
Note = tuple[int, int, int, int, int, int]  # track, channel, onset, length, pitch, velocity


def heard(data: bytes) -> tuple[Counter[Note], list[Counter[Any]]]:
    """Notes, and by track (tick, message) of all else, as mido reads them; the end of a track is no event."""
    song = mido.MidiFile(file=io.BytesIO(data), charset="latin-1", clip=True)
    notes, others = Counter[Note](), []
    for number, track in enumerate(song.tracks):
        now, sounding, rest = 0, dict[Any, list[tuple[int, int]]](), Counter[Any]()
        for message in track:
            now += message.time
            if message.type == "note_on" and message.velocity:
                sounding.setdefault((message.channel, message.note), []).append((now, message.velocity))
            elif message.type in ("note_on", "note_off"):
                if begun := sounding.get((message.channel, message.note)):
                    onset, velocity = begun.pop(0)
                    notes[number, message.channel, onset, now - onset, message.note, velocity] += 1
                else:
                    rest[now, NO_NOTE] += 1
            elif message.type != "end_of_track":
                rest[now, str(message.copy(time=0))] += 1
        for (channel, pitch), begun in sounding.items():
            for onset, velocity in begun:
                notes[number, channel, onset, now - onset, pitch, velocity] += 1
        others.append(rest)
    return notes, others


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The file with what other programs and players leave in files."""
    song = mido.MidiFile(file=io.BytesIO(data), charset="latin-1", clip=True)
    scale = chance.choice((1, 1, 2, 3, 0.5))
    loose = chance.choice((0, 0, 12, 30))
    port = chance.random() < 0.3
    tracks = []
    for number, track in enumerate(song.tracks):
        now, events = 0, list[tuple[int, int, Any]]()
        for order, message in enumerate(track):
            now += message.time
            late = chance.randint(0, loose) if message.type in ("note_on", "note_off") else 0
            events.append((round(now * scale) + late, order, message))
        end = events[-1][0] if events else 0
        channels = sorted({m.channel for _, _, m in events if m.type == "note_on"})
        for channel in channels[:1]:
            for _ in range(chance.randint(0, 12)):
                events.append((chance.randint(0, end), chance.randint(0, len(track)), extra(channel, chance)))
        if port:
            events.insert(0, (0, -1, mido.MetaMessage("midi_port", port=number % 2)))
        last = [event for event in events if event[2].type == "end_of_track"]
        ordered = sorted((event for event in events if event[2].type != "end_of_track"), key=lambda e: e[:2])
        tracks.append(ordered + last[:1])
    if len(tracks) > 2 and not port and chance.random() < 0.3:  # two tracks of music in one
        together = sorted([*tracks[-2][:-1], *tracks[-1][:-1]], key=lambda e: e[0])
        tracks = [*tracks[:-2], [*together, max(tracks[-2][-1], tracks[-1][-1], key=lambda e: e[0])]]
    out = mido.MidiFile(ticks_per_beat=round(song.ticks_per_beat * scale), charset="latin-1", type=1)
    for events in tracks:
        track, before = mido.MidiTrack(), 0
        for tick, _, message in events:
            track.append(message.copy(time=max(tick - before, 0)))
            before = max(tick, before)
        out.tracks.append(track)
    file = io.BytesIO()
    out.save(file=file)
    return file.getvalue()


def extra(channel: int, chance: random.Random) -> Any:
    """Any event that is no note."""
    return chance.choice(
        (
            mido.Message("control_change", channel=channel, control=chance.choice((1, 7, 64)), value=90),
            mido.Message("pitchwheel", channel=channel, pitch=chance.randint(-8000, 8000)),
            mido.Message("aftertouch", channel=channel, value=chance.randint(0, 127)),
            mido.Message("program_change", channel=channel, program=chance.randint(0, 127)),
            mido.Message("sysex", data=(0x7E, 0x7F, 9, chance.randint(0, 3))),
            mido.MetaMessage("lyrics", text=chance.choice(("la", "Stra\xdfe", ""))),
            mido.MetaMessage("marker", text="B"),
            mido.MetaMessage("text", text="\xa9"),
        )
    )


def region_of(file: FileCells, chance: random.Random) -> tuple[tuple[int, int], int]:
    """Bars [first, last) and a track with notes there, if one has any."""
    first = chance.randrange(file.shape[0])
    bars = first, min(first + chance.randint(1, 2), file.shape[0])
    full = [k for k in range(file.shape[1]) if (file.bar_of(file.notes(k)[:, 0]) == first).any()]
    return bars, chance.choice(full or list(range(file.shape[1])))


def by_rule(source: MidiSource, name: str, bars: tuple[int, int], track: int) -> Answer:
    file, rule = FileCells.of(source.score), OPTIONS.get(name, Rule())
    local = RULES[name].local
    tracks = (track,) if local or name == "split" else None
    return apply_rule(file, name, rule, bars if local else None, tracks, source)


def by_model(bundle: Bundle) -> Callable[[MidiSource, str, tuple[int, int], int], Answer]:
    decoder = bundle.decoder(4)

    def carry_out(source: MidiSource, name: str, bars: tuple[int, int], track: int) -> Answer:
        edit = Edit(name, None if name == "continue" else bars, (track,), strength=1.0, length=1, seed=SEED)
        file = FileCells.of(source.score)
        return edit_file(
            bundle.tokenizer,
            bundle.judges,
            lambda r: fill(decoder, bundle.tokenizer, r),
            file,
            edit,
            1,
            source,
        )[0]

    return carry_out


def differences(before: bytes, after: bytes, file: FileCells, name: str, bars: tuple[int, int]) -> set[str]:
    """What is not as it was: "notes" outside the region, other "events", "programs"."""
    (notes, others), (notes_after, others_after) = heard(before), heard(after)
    found = set()
    if name not in NEW_TRACKS and _programs(others) != _programs(others_after):
        found.add("programs")
    if name in MAPPED:
        return found
    early = file.score.tpq // EARLY
    start = int(file.bars[bars[0], 0]) - early
    end = int(file.bars[bars[1] - 1, :2].sum()) - early
    if name == "continue":
        start, end = int(file.bars[-1, :2].sum()) - early, 2**62
    changed = (notes - notes_after) + (notes_after - notes)
    if any(not start <= note[2] < end for note in changed) or len({note[:2] for note in changed}) > 1:
        found.add("notes")
    for events in (*others, *others_after):  # an end of no note would cut a new note of the region
        for tick, what in [key for key in events if key[1] == NO_NOTE and start <= key[0] < end]:
            del events[tick, what]
    if others != others_after:
        found.add("events")
    return found


def _programs(others: list[Counter[Any]]) -> Counter[str]:
    return Counter(
        what for rest in others for _, what in rest.elements() if what.startswith("program_change")
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="of MIDI files")
    parser.add_argument("--files", type=int, default=FILES)
    options = parser.parse_args()
    chance = random.Random(SEED)
    paths = sorted(p for p in options.folder.rglob("*.mid") if p.stat().st_size <= MOST_BYTES)
    chance.shuffle(paths)
    work = dict.fromkeys(RULES, by_rule) | dict.fromkeys(BY_MODEL, by_model(champion_bundle()[1]))
    count = {name: Counter[str]() for name in work}
    refusals = {name: Counter[str]() for name in work}
    for n, path in enumerate(paths[: options.files]):
        data = path.read_bytes()
        try:
            data = mutated(data, chance) if n % 2 else data
            source = read_source(data, LIMITS)
            bars, track = region_of(FileCells.of(source.score), chance)
        except (UnreadableScore, ValueError, OSError, EOFError) as error:
            print(f"not tried: {path.name}: {error}", flush=True)
            continue
        for name, carry_out in work.items():
            try:
                answer = carry_out(source, name, bars, track)
            except (UnreadableScore, ValueError) as error:
                count[name]["refused"] += 1
                refusals[name][str(error)[:80]] += 1
                continue
            count[name]["edited"] += 1
            for what in differences(data, answer.midi, FileCells.of(source.score), name, bars):
                count[name][what] += 1
                print(
                    f"{path.name}{' mutated' if n % 2 else ''}: {name} bars {bars} track {track}: {what}",
                    flush=True,
                )
        if n % 50 == 49:
            print(f"{n + 1} files", flush=True)
    rows, wrong = [], 0
    for name, found in count.items():
        edited, whole = found["edited"], name in MAPPED
        rows.append(
            {
                "operation": name + (" (whole file)" if whole else ""),
                "edited": edited,
                "refused": found["refused"],
                "why most": next((why for why, _ in refusals[name].most_common(1)), ""),
                "notes outside as they were": "" if whole else f"{1 - found['notes'] / max(edited, 1):.1%}",
                "other events as they were": "" if whole else f"{1 - found['events'] / max(edited, 1):.1%}",
                "programs as they were": ""
                if name in NEW_TRACKS
                else f"{1 - found['programs'] / max(edited, 1):.1%}",
            }
        )
        wrong += found["notes"] + found["events"] + found["programs"]
    edits = sum(found["edited"] for found in count.values())
    report.write(
        "edit_files", rows, {"edits_with_a_difference": report.target(wrong / max(edits, 1), "<=", 0.0)}
    )


if __name__ == "__main__":
    main()

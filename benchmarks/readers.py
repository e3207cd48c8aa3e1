"""Which reader is right. Notes (onset, length, pitch), onsets, barlines, metres, first key and programs of
ours, partitura, verovio and symusic against music21, on real files of every format; and what each takes,
beside the bare parser of the format. MusicXML and kern as written, ABC as played. The MIDI files are written
by verovio. Then, of other composers' MusicXML, ours by measure; and of ABC, notes that cross a barline in
tunes with an upbeat, with the upbeat restored and without.

Needs the `dev` extra (partitura, verovio).
"""

import base64
import tempfile
import time
import warnings
import zipfile
from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import mido
import verovio
from lxml import etree
from music21 import converter
from symusic import Score

from benchmarks import report
from benchmarks.reading_facts import (
    GRID,
    Facts,
    ours_as_played,
    ours_as_written,
    symusic,
    with_music21,
    with_partitura,
    with_verovio,
)
from music.reading import abc
from music.reading.files import decoded, quiet_stdout
from music.reading.musicxml import read_musicxml
from music.score.form import bar_table, normalise, note_array

CORPUS = Path(str(metadata.distribution("music21").locate_file("music21/corpus")))
Reader = Callable[[Path], Facts]

FACTS: dict[str, Callable[[Facts, Facts], float]] = {
    "notes": lambda mine, theirs: overlap(mine.notes, theirs.notes),
    "onsets": lambda mine, theirs: overlap(mine.onsets, theirs.onsets),
    "barlines": lambda mine, theirs: overlap(mine.barlines, theirs.barlines),
    "metres": lambda mine, theirs: float(mine.metres == theirs.metres),
    "key": lambda mine, theirs: float(mine.key == theirs.key),
    "programs": lambda mine, theirs: float(mine.programs == theirs.programs),
}


def overlap(mine: set[Any] | None, theirs: set[Any] | None) -> float:
    if not mine and not theirs:
        return 1.0
    return len((mine or set()) & (theirs or set())) / len((mine or set()) | (theirs or set()))


def compared(
    kind: str,
    paths: list[Path],
    reference: Reader,
    readers: Mapping[str, Reader],
    parser: Callable[[Path], Any],
) -> list[dict[str, Any]]:
    """A row for each reader: agreement with music21, files identical in notes, and time beside the parser."""
    truth, times = timed(reference, paths)
    _, bare = timed(parser, paths)
    rows = [{"files of": kind, "reader": "music21", "files": len(paths), **speed(times, bare)}]
    for name, read in readers.items():
        found, times = timed(read, paths)
        pairs = [(mine, truth[path]) for path, mine in found.items() if path in truth]
        row: dict[str, Any] = {"files of": kind, "reader": name, "files": len(pairs)}
        for fact, agreement in FACTS.items():
            told = [pair for pair in pairs if None not in (getattr(each, fact) for each in pair)]
            row[fact] = f"{sum(agreement(*pair) for pair in told) / len(told):.1%}" if told else "not told"
        row["notes identical"] = (
            f"{sum(mine.notes == theirs.notes for mine, theirs in pairs)} of {len(pairs)}"
        )
        rows.append({**row, **speed(times, bare)})
    return rows


def timed(read: Callable[[Path], Any], paths: list[Path]) -> tuple[dict[Path, Any], list[float]]:
    """What is read of each file, without those that the reader refuses, and the seconds of each."""
    found, times = {}, []
    for path in paths:
        begin = time.perf_counter()
        try:
            found[path] = read(path)
        except Exception as error:  # of any reader: a file it cannot read
            print(f"{read}: {path.name}: {error!r:.120}")
        times.append(time.perf_counter() - begin)
    return found, times


def speed(times: list[float], bare: list[float]) -> dict[str, Any]:
    return {
        "files a second": round(len(times) / sum(times), 1),
        "times the bare parser": round(median(a / b for a, b in zip(times, bare, strict=True)), 1),
    }


def by_measure(path: Path) -> float:
    """Notes of ours and of music21 by measure and place in it: music21 gives each part measures of its own
    length, so that what follows a measure that one part fills amiss lies elsewhere in every part."""
    page, score = read_musicxml(path.read_bytes()), converter.parse(path)
    starts = [bar[0] for bar in page.bars]
    mine = set()
    for part in page.parts:
        for onset, _, pitch, _ in part.notes:
            bar = bisect_right(starts, onset) - 1
            mine.add((bar, round((onset - starts[bar]) * GRID), pitch))
    theirs = set()
    for part in score.parts:
        sounding = part.stripTies()
        for bar, measure in enumerate(sounding.getElementsByClass("Measure")):
            for n in measure.flatten().notes:
                if n.quarterLength:
                    theirs |= {(bar, round(float(n.offset) * GRID), pitch.midi) for pitch in n.pitches}
    return len(mine & theirs) / len(mine | theirs)


def crossing_share(restore: bool) -> tuple[int, float]:
    """(tunes with an upbeat in Ryan's collection, share of their notes that cross a barline)."""
    shares = []
    for path in sorted((CORPUS / "ryansMammoth").glob("*.abc")):
        for tune in abc.split_tunes(path.read_text(encoding="utf-8", errors="replace")):
            upbeat = abc.upbeat_quarters(abc.without_ornaments(tune.text))
            if not upbeat:
                continue
            with quiet_stdout():
                score = normalise(abc.read_tune(tune)[0], ticks_per_quarter=12, velocity=80)
            length = int(bar_table(score)[0, 1])
            notes = note_array(score.tracks[0])
            onset = notes[:, 0] if restore else notes[:, 0] - length + round(float(upbeat) * 12)
            shares.append(float((onset // length != (onset + notes[:, 1] - 1) // length).mean()))
    return len(shares), sum(shares) / len(shares)


def midi_of(paths: list[Path], folder: Path) -> list[Path]:
    """The files as verovio writes them as MIDI."""
    written = []
    for path in paths:
        toolkit = verovio.toolkit(True)
        toolkit.loadFile(str(path))
        written.append(folder / f"{path.stem}.mid")
        written[-1].write_bytes(base64.b64decode(toolkit.renderToMIDI()))
    return written


def bare_abc(path: Path) -> None:
    with quiet_stdout():
        Score.from_abc(path.read_text())


def main() -> None:
    warnings.simplefilter("ignore")
    verovio.enableLog(verovio.LOG_OFF)
    pages = sorted((CORPUS / "bach").glob("*.mxl"))[::4]
    kern = sorted((CORPUS / "palestrina").glob("*.krn"))[::26]
    tunes = sorted((CORPUS / "ryansMammoth").glob("*.abc"))[::20]
    others = [
        path
        for name in ("mozart", "haydn", "schumann_clara", "beach", "joplin", "leadSheet", "schubert", "weber")
        for path in sorted((CORPUS / name).rglob("*.*xml")) + sorted((CORPUS / name).rglob("*.mxl"))
        if path.stat().st_size < 60_000
    ][:20]
    on_page = {"ours": ours_as_written, "partitura": with_partitura, "verovio": with_verovio}
    rows = compared("MusicXML, Bach", pages, with_music21, on_page, parsed)
    rows += compared("kern, Palestrina", kern, with_music21, on_page, cells)
    heard = {"ours": ours_as_played, "abc2midi alone": symusic}
    rows += compared("ABC, Ryan", tunes, partial(with_music21, played=True), heard, bare_abc)
    with tempfile.TemporaryDirectory() as folder:
        files = midi_of(pages[::2], Path(folder))
        midi = {"ours": ours_as_played, "symusic": symusic}
        rows += compared("MIDI, Bach by verovio", files, with_music21, midi, mido.MidiFile)
    shares = [by_measure(path) for path in others]
    rows.append(
        {
            "files of": "MusicXML, others, by measure",
            "reader": "ours",
            "files": len(others),
            "notes": f"{sum(shares) / len(shares):.1%}",
            "notes identical": f"{sum(share == 1 for share in shares)} of {len(shares)}",
        }
    )
    for name, restore in (("upbeat restored", True), ("upbeat left out", False)):
        count, share = crossing_share(restore)
        crossing = f"{share:.2%} cross a barline"
        rows.append(
            {"files of": "ABC, Ryan", "reader": f"abc2midi, {name}", "files": count, "notes": crossing}
        )
    report.write("readers", rows, {})


def parsed(path: Path) -> Any:
    with zipfile.ZipFile(path) as packed:
        page = next(name for name in packed.namelist() if name.endswith("xml") and "META-INF" not in name)
        return etree.fromstring(packed.read(page))


def cells(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in decoded(path.read_bytes()).splitlines()]


if __name__ == "__main__":
    main()

"""Which reader is right. MusicXML: ours, partitura and verovio against music21, note by note (onset,
duration, pitch; ties merged; as written, repeats not played), on every tenth Bach file of the corpus; ours by
measure on other composers'. ABC: notes that cross a barline in tunes with an upbeat, with the upbeat restored
and without.

Needs the `dev` extra (partitura, verovio).
"""

import base64
import time
import warnings
from bisect import bisect_right
from importlib import metadata
from pathlib import Path
from typing import Any

import partitura
import verovio
from music21 import converter
from symusic import Score

from benchmarks import report
from music.reading import abc
from music.reading.files import quiet_stdout
from music.reading.musicxml import read_musicxml
from music.score.form import bar_table, normalise, note_array

Notes = set[tuple[int, int, int]]
GRID = 24  # ticks a quarter


def by_music21(path: Path) -> Notes:
    score: Any = converter.parse(path)
    return {
        (round(float(n.offset) * GRID), round(float(n.quarterLength) * GRID), pitch.midi)
        for part in score.parts
        for n in part.stripTies().flatten().notes
        for pitch in n.pitches
        if n.quarterLength  # no grace notes
    }


def by_ours(path: Path) -> Notes:
    """As it stands on the page: music21 follows few of the repeats."""
    page = read_musicxml(path.read_bytes())
    return {
        (round(onset * GRID), round(length * GRID), pitch)
        for part in page.parts
        for onset, length, pitch, _ in part.notes
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


def by_partitura(path: Path) -> Notes:
    notes: Notes = set()
    for part in partitura.load_score(str(path)).parts:
        for row in part.note_array():
            notes.add(
                (
                    round(float(row["onset_quarter"]) * GRID),
                    round(float(row["duration_quarter"]) * GRID),
                    int(row["pitch"]),
                )
            )
    return notes


def by_verovio(path: Path) -> Notes:
    toolkit = verovio.toolkit(True)
    toolkit.loadFile(str(path))
    score = Score.from_midi(base64.b64decode(toolkit.renderToMIDI()))
    return {
        (round(o / score.tpq * GRID), round(d / score.tpq * GRID), int(p))
        for track in score.tracks
        if len(track.notes)
        for o, d, p in note_array(track).tolist()
    }


def row(name: str, agreement: list[float], seconds: float) -> dict[str, Any]:
    return {
        "reader": name,
        "files": len(agreement),
        "notes agreeing": f"{sum(agreement) / len(agreement):.1%}",
        "files identical": f"{sum(a == 1 for a in agreement) / len(agreement):.1%}",
        "ms a file": round(1000 * seconds),
    }


def from_zero(notes: Notes) -> Notes:
    first = min(onset for onset, _, _ in notes)
    return {(onset - first, duration, pitch) for onset, duration, pitch in notes}


def crossing_share(restore: bool) -> tuple[int, float]:
    """(tunes with an upbeat in Ryan's collection, share of their notes that cross a barline)."""
    folder = Path(str(metadata.distribution("music21").locate_file("music21/corpus/ryansMammoth")))
    shares = []
    for path in sorted(folder.glob("*.abc")):
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


def main() -> None:
    warnings.simplefilter("ignore")
    verovio.enableLog(verovio.LOG_OFF)
    corpus = Path(str(metadata.distribution("music21").locate_file("music21/corpus")))
    chorales = sorted((corpus / "bach").glob("*.mxl"))[::10]
    others = [
        path
        for name in ("mozart", "haydn", "schumann_clara", "beach", "joplin", "leadSheet", "schubert", "weber")
        for path in sorted((corpus / name).rglob("*.*xml")) + sorted((corpus / name).rglob("*.mxl"))
        if path.stat().st_size < 60_000
    ][:20]
    reference = {path: from_zero(by_music21(path)) for path in chorales}
    rows: list[dict[str, Any]] = []
    for name, read in (("ours", by_ours), ("partitura", by_partitura), ("verovio", by_verovio)):
        begin = time.perf_counter()
        found = {path: from_zero(read(path)) for path in chorales}
        seconds = (time.perf_counter() - begin) / len(chorales)
        agreement = [
            len(found[path] & reference[path]) / len(found[path] | reference[path]) for path in chorales
        ]
        rows.append(row(f"MusicXML, Bach: {name}", agreement, seconds))
    begin = time.perf_counter()
    for path in others:
        by_ours(path)
    seconds = (time.perf_counter() - begin) / len(others)
    rows.append(row("MusicXML, others, by measure: ours", [by_measure(path) for path in others], seconds))
    upbeats = []
    for name, restore in (("upbeat restored", True), ("upbeat left out", False)):
        tunes, share = crossing_share(restore)
        upbeats.append(
            {
                "reader": f"abc2midi, {name}",
                "files": tunes,
                "notes agreeing": f"{share:.2%} of notes cross a barline",
                "files identical": "",
                "ms a file": "",
            }
        )
    report.write("readers", [*rows, *upbeats], {})


if __name__ == "__main__":
    main()

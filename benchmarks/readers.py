"""Which reader is right. MusicXML: ours, partitura and verovio against music21, note by note (onset,
duration, pitch; ties merged), on every tenth Bach file of the corpus and on other composers'; ours plays
repeats, so it is held against music21's expanded score. ABC: notes that cross a barline in tunes with an
upbeat, with the upbeat restored and without.

Needs the `dev` extra (partitura, verovio).
"""

import base64
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import partitura
import verovio
from music21 import converter
from symusic import Score

from benchmarks import report
from music.reading import abc
from music.reading.files import Reading, quiet_stdout, read_file
from music.score.form import Limits, bar_table, normalise, note_array

Notes = set[tuple[int, int, int]]
GRID = 24  # ticks a quarter


def by_music21(path: Path, played: bool = False) -> Notes:
    score: Any = converter.parse(path)
    if played:
        score = score.expandRepeats()
    return {
        (round(float(n.offset) * GRID), round(float(n.quarterLength) * GRID), pitch.midi)
        for part in score.parts
        for n in part.stripTies().flatten().notes
        for pitch in n.pitches
    }


def by_ours(path: Path) -> Notes:
    """On the grid of the score, without the rests before an upbeat."""
    (reading,) = read_file(path.read_bytes(), path.name, Limits())
    assert isinstance(reading, Reading)
    score = reading.score
    return {
        (round(o / score.tpq * GRID), round(d / score.tpq * GRID), int(p))
        for track in score.tracks
        for o, d, p in note_array(track).tolist()
    }


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
    rows: list[dict[str, Any]] = []
    for kind, files in (("Bach", chorales), ("others", others)):
        judges = {played: {p: from_zero(by_music21(p, played)) for p in files} for played in (False, True)}
        for name, read in (("ours", by_ours), ("partitura", by_partitura), ("verovio", by_verovio)):
            begin = time.perf_counter()
            found = {path: from_zero(read(path)) for path in files}
            seconds = (time.perf_counter() - begin) / len(files)
            reference = judges[name == "ours"]
            agreement = [
                len(found[path] & reference[path]) / len(found[path] | reference[path]) for path in files
            ]
            rows.append(
                {
                    "reader": f"MusicXML, {kind}: {name}",
                    "files": len(files),
                    "notes agreeing": f"{sum(agreement) / len(files):.1%}",
                    "files identical": f"{sum(a == 1 for a in agreement) / len(files):.1%}",
                    "ms a file": round(1000 * seconds),
                }
            )
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

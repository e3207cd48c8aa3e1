"""Which reader of MusicXML is right: partitura and verovio against music21, note by note (onset, duration, pitch; ties merged).

Needs the `dev` extra (verovio). Every tenth Bach file of the corpus.
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
from music.score import note_array

Notes = set[tuple[int, int, int]]
GRID = 24  # ticks a quarter


def by_music21(path: Path) -> Notes:
    score: Any = converter.parse(path)
    return {(round(float(n.offset) * GRID), round(float(n.quarterLength) * GRID), pitch.midi) for part in score.parts for n in part.stripTies().flatten().notes for pitch in n.pitches}


def by_partitura(path: Path) -> Notes:
    notes: Notes = set()
    for part in partitura.load_score(str(path)).parts:
        for row in part.note_array():
            notes.add((round(float(row["onset_quarter"]) * GRID), round(float(row["duration_quarter"]) * GRID), int(row["pitch"])))
    return notes


def by_verovio(path: Path) -> Notes:
    toolkit = verovio.toolkit(True)
    toolkit.loadFile(str(path))
    score = Score.from_midi(base64.b64decode(toolkit.renderToMIDI()))
    return {(round(o / score.tpq * GRID), round(d / score.tpq * GRID), int(p)) for track in score.tracks if len(track.notes) for o, d, p in note_array(track).tolist()}


def from_zero(notes: Notes) -> Notes:
    first = min(onset for onset, _, _ in notes)
    return {(onset - first, duration, pitch) for onset, duration, pitch in notes}


def main() -> None:
    warnings.simplefilter("ignore")
    verovio.enableLog(verovio.LOG_OFF)
    folder = Path(str(metadata.distribution("music21").locate_file("music21/corpus/bach")))
    files = sorted(folder.glob("*.mxl"))[::10]
    reference = {path: from_zero(by_music21(path)) for path in files}
    rows = []
    for name, read in (("partitura", by_partitura), ("verovio", by_verovio)):
        begin = time.perf_counter()
        found = {path: from_zero(read(path)) for path in files}
        seconds = (time.perf_counter() - begin) / len(files)
        agreement = [len(found[path] & reference[path]) / len(found[path] | reference[path]) for path in files]
        rows.append({"reader": name, "files": len(files), "notes agreeing": f"{sum(agreement) / len(files):.1%}", "files identical": f"{sum(a == 1 for a in agreement) / len(files):.1%}", "ms a file": round(1000 * seconds)})
    report.write("readers", rows, {})


if __name__ == "__main__":
    main()

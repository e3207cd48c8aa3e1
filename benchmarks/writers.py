"""Which writer of MusicXML is readable: ours, music21 from MIDI and partitura from MIDI, on 200 pieces of the
corpus. By writer: notes spelled as in the source, signatures as in the source, symbols a sounding note (ties
and rests written for nothing raise it; the source's own stands beside), notes and bars that come back through
our reader, pages that verovio renders. And of every piece of the champion's test split, through each format
that is written and back: notes and bars as they were.

Needs the `dev` extra (partitura, verovio).
"""

import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import partitura
import pyarrow.parquet as pq
import verovio
from lxml import etree
from music21 import converter, pitch
from symusic import Score

from benchmarks import report
from music.reading.files import Reading, only_piece, read_file, read_format
from music.score.form import Limits, bar_table, normalise, note_array, to_midi
from music.writing.files import written

GRID = 24
LIMITS = Limits(max_bytes=10**8)
ALTERS = {-2: "--", -1: "-", 0: "", 1: "#", 2: "##"}
Writer = Callable[[Score], bytes]


def pieces() -> list[Path]:
    corpus = Path(str(metadata.distribution("music21").locate_file("music21/corpus")))
    chorales = sorted((corpus / "bach").glob("*.mxl"))[::4][:100]
    tunes = sorted((corpus / "ryansMammoth").glob("*.abc"))[::17][:60]
    names = (
        "mozart",
        "haydn",
        "schumann_clara",
        "beach",
        "joplin",
        "leadSheet",
        "schubert",
        "weber",
        "beethoven",
    )
    others = [
        path
        for name in names
        for path in sorted((corpus / name).rglob("*.*xml")) + sorted((corpus / name).rglob("*.mxl"))
        if path.stat().st_size < 60_000
    ][:40]
    return [*chorales, *tunes, *others]


def by_music21(score: Score) -> bytes:
    return Path(converter.parse(to_midi(score), format="midi").write("musicxml")).read_bytes()


def by_partitura(score: Score) -> bytes:
    """Without its estimate of the key, which fails in this version (estimate_key: ValueError)."""
    with tempfile.NamedTemporaryFile(suffix=".mid") as file:
        file.write(to_midi(score))
        file.flush()
        return bytes(partitura.save_musicxml(partitura.load_score_midi(file.name)))


def by_ours(score: Score) -> bytes:
    return written(score, "musicxml")


def on_the_page(score: Any) -> tuple[dict[int, set[str]], float, int]:
    """Of a music21 score: names of each pitch class, symbols a sounding note, sharps of the first
    signature."""
    names: dict[int, set[str]] = defaultdict(set)
    symbols = 0
    for found in score.recurse().notesAndRests:
        if not found.duration.isGrace:
            symbols += 1
            for each in getattr(found, "pitches", ()):
                names[each.midi % 12].add(each.name)
    sounding = sum(1 for part in score.parts for _ in part.stripTies().flatten().notes)  # a chord is one
    sharps = [each.sharps for each in score.recurse().getElementsByClass("KeySignature")]
    return names, symbols / max(sounding, 1), sharps[0] if sharps else 0


def sounding(score: Score) -> tuple[list[list[int]], list[list[int]]]:
    normal = normalise(score, ticks_per_quarter=GRID, velocity=80)
    notes = sorted(row for track in normal.tracks for row in note_array(track).tolist())
    return notes, bar_table(normal)[:, :2].tolist()


def sounding_together(score: Score) -> int:
    """Notes, those of a track that begin and end together as one."""
    return sum(len(np.unique(note_array(track)[:, :2], axis=0)) for track in score.tracks if len(track.notes))


def judged(data: bytes, score: Score, names: dict[int, set[str]], sharps: int) -> dict[str, float]:
    """names, sharps: of the source (`on_the_page`)."""
    tree = etree.fromstring(data)
    right = known = symbols = 0
    for note in tree.iter("note"):
        symbols += note.find("chord") is None and note.find("grace") is None
        step, alter = note.findtext("pitch/step"), round(float(note.findtext("pitch/alter") or 0))
        if step and (name := step + ALTERS[alter]) and (told := names.get(pitch.Pitch(name).midi % 12)):
            known, right = known + 1, right + (name in told)
    signed = [int(each.text) for each in tree.iter("fifths")]
    back = read_file(data, "a.musicxml", LIMITS)[0]
    assert isinstance(back, Reading)
    kit = verovio.toolkit()
    return {
        "spelled": right / max(known, 1),
        "key": float((signed[0] if signed else 0) == sharps),
        "symbols": symbols / max(sounding_together(back.score), 1),
        "came back": float(sounding(back.score) == sounding(score)),
        "rendered": float(kit.loadData(data.decode()) and "<svg" in kit.renderToSVG(1)),
    }


def row(name: str, found: list[dict[str, float] | None], seconds: float, failed: list[str]) -> dict[str, Any]:
    good = [each for each in found if each]

    def mean(what: str) -> float:
        return float(np.mean([each[what] for each in good]))

    return {
        "writer": name,
        "pieces": len(found),
        "written and read": len(good),
        "spelled as the source": f"{mean('spelled'):.2%}",
        "key signature as the source": f"{mean('key'):.0%}",
        "symbols a note": f"{mean('symbols'):.3f}",
        "notes and bars back": f"{mean('came back'):.1%}",
        "rendered by verovio": f"{mean('rendered'):.1%}",
        "ms a piece": round(1000 * seconds / len(found)),
        "first failure": failed[0] if failed else "",
    }


def there_and_back(to: str) -> tuple[int, list[str]]:
    """Of the test split: pieces, and those of which notes or bars differ after a format."""
    columns = ["piece_id", "split", "midi"]
    pieces = pq.read_table("data/prepared/scores.parquet", columns=columns).to_pylist()
    mine, wrong = [piece for piece in pieces if piece["split"] == "test"], []
    for piece in mine:
        score = Score.from_midi(piece["midi"])
        back = only_piece(read_format(written(score, to), to, LIMITS))
        if sounding(back.score) != sounding(score):
            wrong.append(piece["piece_id"])
    return len(mine), wrong


def main() -> None:
    warnings.simplefilter("ignore")
    sources: list[tuple[Score, dict[int, set[str]], int]] = []
    of_sources = []
    for path in pieces():
        reading = read_file(path.read_bytes(), path.name, LIMITS)[0]
        if isinstance(reading, Reading):
            plain = normalise(reading.score, ticks_per_quarter=GRID, velocity=80)
            plain.key_signatures.clear()  # every writer has to find the key
            names, symbols, sharps = on_the_page(converter.parse(path))
            sources.append((plain, names, sharps))
            of_sources.append(symbols)
    rows = []
    writers: dict[str, Writer] = {
        "ours": by_ours,
        "music21, from MIDI": by_music21,
        "partitura, from MIDI": by_partitura,
    }
    for name, write in writers.items():
        found: list[dict[str, float] | None] = []
        failed: list[str] = []
        seconds = 0.0
        for score, names, sharps in sources:
            begin = time.perf_counter()
            try:
                data = write(score)
                seconds += time.perf_counter() - begin
                found.append(judged(data, score, names, sharps))
            except Exception as error:  # of any library: a piece it cannot write
                failed.append(f"{type(error).__name__}: {str(error)[:60]}")
                found.append(None)
        rows.append(row(name, found, seconds, failed))
        print(rows[-1], flush=True)
    rows.append(
        dict.fromkeys(rows[0], "") | {"writer": "the source", "symbols a note": f"{np.mean(of_sources):.3f}"}
    )
    targets = {}
    for to in ("musicxml", "abc"):
        pieces_of_split, wrong = there_and_back(to)
        share = 1 - len(wrong) / pieces_of_split
        rows.append(
            dict.fromkeys(rows[0], "")
            | {
                "writer": f"ours, test split, {to}",
                "pieces": pieces_of_split,
                "notes and bars back": f"{share:.1%}",
                "first failure": wrong[0] if wrong else "",
            }
        )
        targets[f"test_split_back_from_{to}"] = report.target(share, ">=", 1.0)
    report.write("writers", rows, targets)


if __name__ == "__main__":
    main()

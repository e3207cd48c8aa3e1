"""Edits of a melody beside a track of chords, as in most files that people have: does the melody keep to its
part, and does it hear the chords?

    python -m benchmarks.beside_chords --files 40

The files are test tunes for a flute and block chords for a guitar, whose chords are those the tune implies;
neither instrument need be known to the model. Compass: semitones of the whole melody after the edit;
overlapping: share of files in which a melody note begins before the one before has ended; in the chord: share
of what is struck on beats in the region that lies in the chord there; the same where the chord track is left
out of the file.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from symusic import Score

from benchmarks import report
from models.bundle import Bundle, open_bundle
from models.edit.edit import edit_file
from models.edit.tasks import Edit
from models.fill.fill import fill
from models.tokens.shards import Shard
from music.analysis.chords import chords_of
from music.score.chords import NAMES, NO_CHORD, QUALITIES
from music.score.file_cells import FileCells
from music.score.form import bar_table, build, note_array

TOKENS, FLUTE, GUITAR, LOWEST, REGION, SEED = Path("data/tokens"), 73, 24, 43, (4, 8), 5
OPERATIONS = ("infill", "continue", "simplify", "restyle")


def with_chords(score: Score, key: str) -> Score:
    """The tune for a flute, and its chords for a guitar."""
    chords, notes, first = chords_of(score, key), list[tuple[int, int, int]](), 0
    for n in range(1, len(chords) + 1):
        if n < len(chords) and (chords[n, 2:4] == chords[first, 2:4]).all():
            continue
        root, quality = (int(x) for x in chords[first, 2:4])
        if root != NO_CHORD:
            start, end = int(chords[first, 0]), int(chords[n - 1, :2].sum())
            base = LOWEST + (root - LOWEST) % 12
            notes += [(start, end - start, base + step) for step in QUALITIES[NAMES[quality]]]
        first = n
    changes = [(ts.time, ts.numerator, ts.denominator) for ts in score.time_signatures]
    tracks = [(FLUTE, False, note_array(score.tracks[0])), (GUITAR, False, np.array(sorted(notes)))]
    return build(tracks, changes, score.tpq, 80)


def without_chords(score: Score) -> Score:
    alone = score.copy()
    del alone.tracks[1]
    return alone


def edited(bundle: Bundle, score: Score, operation: str, record: dict[str, Any], seed: int) -> "Score | None":
    """The file after an edit of the melody; None where there is no simpler take."""
    decoder, t = bundle.decoder(16), bundle.tokenizer
    bars = None if operation == "continue" else REGION
    style = {"style": "irish", "rhythm": record["rhythm"]} if operation == "restyle" else {}
    edit = Edit(operation, bars, (0,), seed=seed, **style)
    try:
        file = FileCells.of(score)
        return edit_file(t, bundle.judges, lambda rs: fill(decoder, t, rs), file, edit)[0].file.score
    except ValueError as error:
        if operation == "simplify" and ("no simpler" in str(error) or "sparser" in str(error)):
            return None
        raise


def measured(after: Score, chords: np.ndarray, bars: tuple[int, int]) -> tuple[int, bool, int, int]:
    """Compass, overlapping, notes struck on beats of the region that lie in its chords, and all of them."""
    notes = note_array(after.tracks[0])
    notes = notes[np.lexsort((notes[:, 2], notes[:, 0]))]
    table = bar_table(after)
    start, end = int(table[bars[0], 0]), int(table[bars[1] - 1, :2].sum())
    hits = total = 0
    for tick, _, root, quality, _ in chords.tolist():
        if start <= tick < end and root != NO_CHORD:
            struck = notes[notes[:, 0] == tick, 2]
            total += len(struck)
            hits += sum(int(pitch - root) % 12 in QUALITIES[NAMES[quality]] for pitch in struck)
    overlapping = bool((notes[1:, 0] < np.maximum.accumulate(notes[:, 0] + notes[:, 1])[:-1]).any())
    return int(np.ptp(notes[:, 2])), overlapping, hits, total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=40)
    count = parser.parse_args().files
    bundle, test = open_bundle(Path("bundle")), Shard(TOKENS, "test")
    able = [
        i
        for i, record in enumerate(test.records)
        if record["style"] != "chorale" and record["rhythm"] and len(test.bar_starts(i)) >= 16
    ][:count]
    files = [with_chords(bundle.tokenizer.decode_ids(test.piece(i)), test.records[i]["key"]) for i in able]
    rows: list[dict[str, Any]] = []
    implied = [chords_of(without_chords(s), test.records[i]["key"]) for s, i in zip(files, able, strict=True)]
    real = [measured(s, chords, REGION) for s, chords in zip(files, implied, strict=True)]
    rows.append(row("real", real, None))
    worst = 0.0
    for operation in OPERATIONS:
        beside: Measured = []
        alone: Measured = []
        for n, (score, i) in enumerate(zip(files, able, strict=True)):
            chords = chords_of(without_chords(score), test.records[i]["key"])
            last = len(bar_table(score))
            bars = (last, last + 4) if operation == "continue" else REGION
            if operation == "continue":  # what comes after the end has no chords to hear
                chords = chords[:0]
            for into, source in ((beside, score), (alone, without_chords(score))):
                after = edited(bundle, source, operation, test.records[i], SEED * 100 + n)
                if after is not None:
                    into.append(measured(after, chords, bars))
        rows.append(row(operation, beside, alone))
        worst = max(worst, rows[-1]["compass"] - rows[0]["compass"])
        print(rows[-1], flush=True)
    heard = rows[1]
    report.write(
        "beside_chords",
        rows,
        {
            "overlapping, all operations": report.target(max(r["overlapping"] for r in rows[1:]), "<=", 0.0),
            "compass above the real one, semitones": report.target(worst, "<=", 4.0),
            "chords heard by infill, against none": report.target(
                heard["in the chord"], ">=", heard["in the chord, no chord track"]
            ),
        },
    )


Measured = list[tuple[int, bool, int, int]]


def row(name: str, found: Measured, alone: Measured | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "edit": name,
        "files": len(found),
        "compass": round(float(np.mean([each[0] for each in found])), 1),
        "overlapping": round(float(np.mean([each[1] for each in found])), 3),
        "in the chord": in_chord(found),
    }
    return told | ({"in the chord, no chord track": in_chord(alone)} if alone else {})


def in_chord(found: Measured) -> float | str:
    struck = sum(each[3] for each in found)
    return round(sum(each[2] for each in found) / struck, 3) if struck else ""


if __name__ == "__main__":
    main()

"""Other music as sixteenth grids for the open track, without whatever shares a tune with the benchmark's
valid and test pieces."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow.parquet as pq
from symusic import Score

from benchmarks.jsb_grid import MATCHES, Piece, ages, earlier, scale
from music.analysis.similarity import ngram_codes
from music.score.form import note_array

NGRAM, CONTAINMENT = 7, 0.4  # params.yaml: prepare.family_ngram, prepare.family_containment
MAPPED = 0.25  # containment from which jsb_to_bwv.tsv names a piece's file
SPAN = ((60, 81), (52, 74), (46, 69), (36, 66))  # MIDI range of each voice in the train pieces
LONGEST, SHORTEST = 512, 48  # steps of a grid; longer pieces are cut at LONGEST
POLYPHONY = ("bach", "monteverdi", "mozart", "haydn", "beethoven")
MELODIES = ("essen",)


def tune_grams(pitch: np.ndarray) -> np.ndarray:
    """Interval n-grams of a voice (T,) at sixteenth steps, -1 rest: repeated notes, which a grid does not
    tell from held ones, are joined."""
    step = np.diff(pitch[pitch >= 0])
    return ngram_codes([np.clip(step[step != 0], -24, 24) + 24], NGRAM)


def related(voice: np.ndarray, tunes: Sequence[np.ndarray]) -> bool:
    """Whether n-grams of a voice and of any tune overlap by CONTAINMENT of the smaller set: one tune
    family."""
    return any(
        len(tune)
        and len(voice)
        and len(np.intersect1d(voice, tune, assume_unique=True)) >= CONTAINMENT * min(len(voice), len(tune))
        for tune in tunes
    )


def free_of_leaks(grids: Sequence[np.ndarray], train: Sequence[np.ndarray]) -> list[int]:
    """Indices of grids whose soprano has no tune family in the train pieces' sopranos."""
    tunes = [tune_grams(grid[:, 0]) for grid in train]
    return [i for i, grid in enumerate(grids) if not related(tune_grams(grid[:, 0]), tunes)]


def voices_of(midi: bytes) -> np.ndarray:
    """Top notes of each track at sixteenth steps from the first onset, int64 (T, tracks), -1 rest, highest
    track first."""
    score = Score.from_midi(midi)
    lines = [
        note_array(track).astype(float) for track in score.tracks if len(track.notes) and not track.is_drum
    ]
    if not lines:
        return np.zeros((0, 0), dtype=np.int64)
    steps = 4 / score.tpq
    first = min(notes[0, 0] for notes in lines)
    length = round(max((notes[:, 0] + notes[:, 1]).max() - first for notes in lines) * steps)
    grid = np.full((length, len(lines)), -1, dtype=np.int64)
    for voice, notes in enumerate(lines):
        for onset, duration, pitch in notes:  # by onset, then pitch: the top note stays
            start = round((onset - first) * steps)
            grid[start : max(round((onset - first + duration) * steps), start + 1), voice] = int(pitch)
    height = [-grid[:, v][grid[:, v] >= 0].mean() for v in range(len(lines))]
    return grid[:, np.argsort(height, kind="stable")]


def four_voices(voices: np.ndarray) -> np.ndarray | None:
    """Top, bottom and the two busiest inner tracks (T, 4), or one melody as soprano; each brought into its
    voice's range by octaves, else None."""
    count = voices.shape[1]
    if len(voices) < SHORTEST or count in (0, 2, 3):
        return None
    if count == 1:
        chosen = np.pad(voices, ((0, 0), (0, 3)), constant_values=-1)
    else:
        busy = sorted(range(1, count - 1), key=lambda v: -int((np.diff(voices[:, v]) != 0).sum()))[:2]
        chosen = voices[:, [0, *sorted(busy), count - 1]]
    return np.stack([_into_range(chosen[:LONGEST, v], *SPAN[v]) for v in range(4)], axis=1)


def _into_range(voice: np.ndarray, low: int, high: int) -> np.ndarray:
    """Moved by octaves as a whole, then note by note where it still leaves the range."""
    sounding = voice[voice >= 0]
    if not len(sounding):
        return voice
    voice = np.where(voice >= 0, voice + 12 * round(((low + high) / 2 - sounding.mean()) / 12), -1)
    voice = np.where(
        (voice >= 0) & (voice > high), voice - 12 * np.ceil((voice - high) / 12).astype(np.int64), voice
    )
    return np.where(
        (voice >= 0) & (voice < low), voice + 12 * np.ceil((low - voice) / 12).astype(np.int64), voice
    )


def held_out_files(table: Path) -> set[str]:
    """Names of music21's files of valid and test pieces."""
    with table.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    return {
        row["best_music21"]
        for row in rows
        if row["split"] in ("valid", "test") and float(row["containment"]) >= MAPPED
    }


def other_music(
    ingested: Path, table: Path, held_out: Sequence[np.ndarray], collections: Sequence[str]
) -> tuple[list[np.ndarray], Counter[str]]:
    """Grids of ingested pieces that are neither valid or test pieces nor of their tune families, and counts
    of what was kept and left out."""
    files = held_out_files(table)
    tunes = [tune_grams(grid[:, 0]) for grid in held_out]
    grids: list[np.ndarray] = []
    counts: Counter[str] = Counter()
    for collection in collections:
        for row in pq.read_table(ingested / f"{collection}.parquet", columns=["path", "midi"]).to_pylist():
            voices = voices_of(row["midi"])
            if PurePosixPath(row["path"].split("#")[0]).stem in files:
                counts[f"{collection}: a valid or test piece"] += 1
            elif any(related(tune_grams(voices[:, v]), tunes) for v in range(voices.shape[1])):
                counts[f"{collection}: a tune family of theirs"] += 1
            elif (grid := four_voices(voices)) is None:
                counts[f"{collection}: too short or two or three voices"] += 1
            else:
                counts[f"{collection}: kept"] += 1
                grids.append(grid)
    return grids, counts


def melodies(grids: Sequence[np.ndarray]) -> list[Piece]:
    """Features of melodies: of the soprano alone, no matches looked for."""
    return [
        Piece(
            grid,
            ages(grid),
            earlier(grid),
            np.full((len(grid), MATCHES, 4), -2),
            np.zeros((len(grid), MATCHES), dtype=np.int64),
            scale(grid),
            1,
        )
        for grid in grids
    ]

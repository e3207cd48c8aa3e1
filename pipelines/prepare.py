"""Stage `prepare`: validate, anonymise, normalise, find duplicates, split by duplicate group."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from symusic import Score
from tqdm import tqdm

from music.analysis.descriptors import NAMES, describe, histograms
from music.analysis.harmony import final_root
from music.analysis.similarity import groups_of, melody, ngram_codes, similar_pairs
from music.reading.files import LABELS, read_midi
from music.reading.midi import read_source
from music.reading.midi_events import META, TRACK_NAME, MidiFile
from music.score.errors import UnreadableScore
from music.score.form import Limits, bar_table, normalise, note_array, to_midi
from music.score.keys import estimate_key, key_on
from music.score.long_works import parts_of, with_notes_up_to
from music.score.quantise import quantised
from pipelines.running.files import StageError, run_stage, write_csv, write_json, write_parquet
from pipelines.running.params import Prepare, Split, load_params
from pipelines.running.plots import histogram, shares

INGESTED = Path("data/ingest")
SCORES = Path("data/prepared/scores.parquet")
SPLITS = Path("data/prepared/splits.csv")
REPORT = Path("reports/prepare_report.json")
PLOTS = Path("reports/prepare")
PITCH_CLASSES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
CHUNK = 200
PERSONAL = ("texts and lyrics", "track names", "controls, bends and pedals")
WORDS = range(1, 16)  # meta events that hold text
CONTROLS = (0xB0, 0xE0)
CHORDS = pa.list_(pa.struct([("quarter", pa.float64()), ("symbol", pa.string())]))
SCHEMA = pa.schema(
    [
        ("piece_id", pa.string()),
        ("collection", pa.string()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("licence", pa.string()),
        ("converter", pa.string()),
        *((label, pa.string()) for label in LABELS),
        ("key_source", pa.string()),
        ("notes", pa.int32()),
        ("bars", pa.int32()),
        ("quantisation", pa.float64()),
        ("group", pa.int32()),
        ("split", pa.string()),
        *((f"d_{name}", pa.float64()) for name in NAMES),
        ("chords", CHORDS),
        ("midi", pa.binary()),
    ]
)


def prepare_piece(row: dict[str, Any], params: Prepare) -> list[dict[str, Any]]:
    """One ingested piece in normal form with its descriptors and n-grams, in parts where it is too long;
    [{"drop": reason}] where it is not let in. Velocities and tempos are those of the source."""
    try:
        source = read_source(row["midi"], Limits(max_tracks=params.max_tracks * 8))
        raw, loss = source.score, quantisation_loss(source.score, params.ticks_per_quarter)
        if loss > params.max_quantisation:
            raw, far = quantised(raw)
            if far > params.max_performed:
                why = (
                    f"a bar of the source is too long or short, or it was played freely ({far:.3f} quarters)"
                )
                return [_dropped(row, f"off the beat: {why}", "max_performed")]
        whole = normalise(raw, ticks_per_quarter=params.ticks_per_quarter, velocity=None)
        whole, shortened = with_notes_up_to(whole, params.max_note_quarters)
        parts = parts_of(whole, params.max_bars, params.max_notes)
    except (UnreadableScore, RuntimeError) as error:
        return [_dropped(row, str(error), "")]
    if row["score_made"]:
        for track in (track for part in parts for track in part.tracks):
            track.program = track.program or row["program"]
    chords = chords_in_place(row["chords"], raw, whole) if len(parts) == 1 else []
    told = {"chords": chords, "quantisation": loss, "stripped": _stripped(source.file)}
    pieces = [_piece(row, part, raw, params) | told for part in parts]
    for n, piece in enumerate(pieces):
        piece["shortened"] = shortened if not n else 0
        if len(pieces) > 1 and "drop" not in piece:
            piece["piece_id"] += f"#part{n + 1}"
    return pieces


def _dropped(row: dict[str, Any], reason: str, knob: str) -> dict[str, Any]:
    """knob: the entry of prepare in params.yaml that would let it in."""
    return {"drop": reason, "knob": knob, "collection": row["collection"], "path": row["path"]}


def chords_in_place(chords: list[dict[str, Any]], raw: Score, score: Score) -> list[dict[str, Any]]:
    """Symbols by quarter of the raw score as they stand in its normal form, which begins with the first bar
    that sounds."""
    first = [
        min(int(track.notes.numpy()["time"].min()) for track in each.tracks if len(track.notes)) / each.tpq
        for each in (raw, score)
    ]
    moved = round((first[0] - first[1]) * score.tpq) / score.tpq
    return [{**chord, "quarter": max(chord["quarter"] - moved, 0.0)} for chord in chords]


def _piece(row: dict[str, Any], score: Score, raw: Score, params: Prepare) -> dict[str, Any]:
    reason, knob = _out_of_bounds(score, params)
    if reason:
        return _dropped(row, reason, knob)
    bars = bar_table(score)
    key, source = _key(row["key"], score, raw)
    return {
        **{
            column: row[column]
            for column in ("piece_id", "collection", "path", "sha256", "licence", "converter", *LABELS)
        },
        "tempo": row["tempo"] or ("" if row["score_made"] or not raw.tempos else f"{raw.tempos[0].qpm:g}"),
        "key": key,
        "key_source": source,
        "metre": f"{bars[0, 2]}/{bars[0, 3]}",
        "notes": score.note_num(),
        "bars": len(bars),
        **{f"d_{name}": value for name, value in describe(score).items()},
        "midi": to_midi(score),
        "grams": ngram_codes(melody(score), params.ngram),
        "top_grams": ngram_codes(melody(score, _top_voice(score)), params.family_ngram)
        if row["style"] in params.tune_families
        else None,
        "pitch_classes": histograms(score)["pitch_class_histogram"],
    }


def quantisation_loss(raw: Score, ticks_per_quarter: int) -> float:
    """Mean distance of onsets from the grid, in grid steps (0 = all on it; 0.25 = no relation to it)."""
    onsets = np.concatenate(
        [track.notes.numpy()["time"].astype(float) for track in raw.tracks if len(track.notes)]
    )
    steps = onsets * ticks_per_quarter / raw.tpq
    return float(np.abs(steps - np.rint(steps)).mean())


def _out_of_bounds(score: Score, params: Prepare) -> tuple[str, str]:
    """Why a piece is not let in, and the knob that would; ("", "") where it is."""
    notes, bars = score.note_num(), len(bar_table(score))
    checks = (
        (notes < params.min_notes, f"{notes} notes", "min_notes"),
        (notes > params.max_notes, f"{notes} notes in a bar", "max_notes"),
        (bars < params.min_bars, f"{bars} bars", "min_bars"),
        (len(score.tracks) > params.max_tracks, f"{len(score.tracks)} tracks", "max_tracks"),
    )
    return next(((reason, knob) for failed, reason, knob in checks if failed), ("", ""))


def _key(label: str, score: Score, raw: Score) -> tuple[str, str]:
    """(key, where it is from): the label; else of several voices the root of the final chord, which is where
    a piece comes home; else Krumhansl's estimate within the notated signature if there is one."""
    if label:
        return label, "label"
    pitch_classes = histograms(score)["pitch_class_histogram"]
    root = final_root(score)
    if root is not None:
        return key_on(pitch_classes, root), "final chord"
    sharps = int(raw.key_signatures[0].key) if raw.key_signatures else None
    return estimate_key(pitch_classes, sharps)[0], "estimate"


def _top_voice(score: Score) -> int:
    return int(
        np.argmax([note_array(track)[:, 2].mean() if not track.is_drum else -1 for track in score.tracks])
    )


def _stripped(file: MidiFile) -> list[int]:
    """How many of each kind in PERSONAL the file held; none of them is kept."""
    events = [event for track in file.tracks for event in track]
    words = [event.data[0] for event in events if event.status == META and event.data[0] in WORDS]
    names = words.count(TRACK_NAME)
    return [len(words) - names, names, sum(event.kind in CONTROLS for event in events)]


def split_groups(ids: list[str], groups: np.ndarray, shares: Split, seed: int) -> list[str]:
    """A split for each piece: all of a group in one, drawn from a hash of the seed and the group's first
    piece id.

    A hash, not a shuffle: pieces keep their split when a source is added, so a champion's test pieces do not
    drift into training.
    """
    first = {int(g): ids[int(np.flatnonzero(groups == g)[0])] for g in np.unique(groups)}
    split_of = {}
    for group, name in first.items():
        draw = int(hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()[:12], 16) / 16**12
        split_of[group] = (
            "train" if draw < shares.train else "valid" if draw < shares.train + shares.valid else "test"
        )
    return [split_of[int(g)] for g in groups]


def duplicate_groups(pieces: list[dict[str, Any]], params: Prepare) -> np.ndarray:
    """Group of each piece: near-duplicates in any key, equal files, and settings of one hymn tune."""
    pairs = [similar_pairs([piece["grams"] for piece in pieces], params.duplicate_jaccard)]
    families = [
        i for i, piece in enumerate(pieces) if piece["top_grams"] is not None and len(piece["top_grams"])
    ]
    if families:
        tunes = similar_pairs(
            [pieces[i]["top_grams"] for i in families], params.family_containment, containment=True
        )
        pairs.append(np.array(families)[tunes].reshape(-1, 2))
    same: dict[Any, int] = {}  # equal files, and parts of one work
    equal = [(same.setdefault(name, i), i) for i, piece in enumerate(pieces) for name in _names(piece)]
    pairs.append(np.array([pair for pair in equal if pair[0] != pair[1]], dtype=np.int64).reshape(-1, 2))
    return groups_of(np.concatenate(pairs), len(pieces))


def _names(piece: dict[str, Any]) -> tuple[Any, ...]:
    """What two pieces of one group may have in common: their notes, or the work they are parts of."""
    notes = normalise(read_midi(piece["midi"], Limits()), ticks_per_quarter=12, velocity=80)
    return to_midi(notes), piece["piece_id"].partition("#part")[0]


def _prepare_chunk(job: tuple[list[dict[str, Any]], Prepare]) -> list[list[dict[str, Any]]]:
    return [prepare_piece(row, job[1]) for row in job[0]]


def prepare_all(rows: list[dict[str, Any]], params: Prepare) -> Iterable[dict[str, Any]]:
    """`prepare_piece` of every row on a process pool, in order."""
    jobs = [(rows[i : i + CHUNK], params) for i in range(0, len(rows), CHUNK)]
    with (
        ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool,
        tqdm(total=len(rows), desc="prepare", unit="piece", mininterval=2) as bar,
    ):
        for done in pool.map(_prepare_chunk, jobs):
            bar.update(len(done))
            for pieces in done:
                yield from pieces


def _report(
    rows: list[dict[str, Any]],
    pieces: list[dict[str, Any]],
    drops: list[dict[str, Any]],
    refused: Counter[str],
    params: Prepare,
) -> dict[str, Any]:
    sizes = Counter(Counter(piece["group"] for piece in pieces).values())
    return {
        "read": len(rows),
        "kept": len(pieces),
        "notes": sum(piece["notes"] for piece in pieces),
        "dropped": dict(Counter(_knob(drop) for drop in drops)),
        "dropped_files": sorted(drops, key=lambda drop: (drop["collection"], drop["path"])),
        "notes_shortened": sum(piece["shortened"] for piece in pieces),
        "with_chords": sum(bool(piece["chords"]) for piece in pieces),
        "refused_by_licence": dict(refused),
        "licences": dict(Counter(piece["licence"] for piece in pieces)),
        "splits": {
            split: sum(piece["split"] == split for piece in pieces) for split in ("train", "valid", "test")
        },
        "groups": {
            "count": sum(sizes.values()),
            "of_more_than_one": sum(n for size, n in sizes.items() if size > 1),
            "pieces_with_a_near_duplicate": sum(size * n for size, n in sizes.items() if size > 1),
            "largest": max(sizes),
        },
        "quantisation_mean_steps": round(float(np.mean([piece["quantisation"] for piece in pieces])), 5),
        "stripped": dict(
            zip(PERSONAL, np.sum([piece["stripped"] for piece in pieces], axis=0).tolist(), strict=True)
        ),
        "labels": {
            label: dict(Counter(piece[label] or "(none)" for piece in pieces).most_common(30))
            for label in ("collection", "style", "rhythm", "metre", "key", "key_source", "tempo")
        },
        "seed": params.seed,
    }


def _knob(drop: dict[str, Any]) -> str:
    return f"prepare.{drop['knob']}" if drop["knob"] else drop["drop"].split(":")[0]


def _plots(pieces: list[dict[str, Any]]) -> None:
    count = len(pieces)
    styles = Counter(piece["style"] or "(none)" for piece in pieces)
    classes = np.mean([piece["pitch_classes"] for piece in pieces], axis=0).tolist()
    histogram(PLOTS / "lengths.svg", [piece["bars"] for piece in pieces], f"Bars of {count} pieces", "bars")
    shares(PLOTS / "styles.svg", {name: n / count for name, n in styles.items()}, "Styles", "share of pieces")
    named = dict(zip(PITCH_CLASSES, classes, strict=True))
    shares(PLOTS / "pitch_classes.svg", named, "Pitch classes by sounding time", "share")


def main() -> None:
    params = load_params().prepare
    rows: list[dict[str, Any]] = [
        row for path in sorted(INGESTED.glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]
    if not rows:
        raise StageError("ingest read no piece at all: look at reports/ingest_report.json for the reasons")
    admitted = [row for row in rows if row["licence"] in params.licences]
    refused = Counter(row["licence"] for row in rows if row["licence"] not in params.licences)
    if not admitted:
        raise StageError(f"no piece has a licence class that prepare.licences lets in; found {dict(refused)}")
    prepared = list(prepare_all(admitted, params))
    pieces = [piece for piece in prepared if "drop" not in piece]
    drops = [
        {name: piece[name] for name in ("collection", "path", "drop", "knob")}
        for piece in prepared
        if "drop" in piece
    ]
    if not pieces:
        raise StageError(
            f"every piece was dropped, by {dict(Counter(map(_knob, drops)))}; loosen the limits in "
            "params.yaml under prepare"
        )
    groups = duplicate_groups(pieces, params)
    splits = split_groups([piece["piece_id"] for piece in pieces], groups, params.split, params.seed)
    for piece, group, split in zip(pieces, groups, splits, strict=True):
        piece["group"], piece["split"] = int(group), split
    empty = [split for split in ("train", "valid", "test") if split not in splits]
    if empty:
        raise StageError(
            f"no piece fell into {', '.join(empty)}: {len(pieces)} pieces in {len(set(groups.tolist()))} "
            f"groups are too few; add scores or change prepare.split or prepare.seed"
        )
    write_parquet(SCORES, [{name: piece[name] for name in SCHEMA.names} for piece in pieces], SCHEMA)
    write_csv(
        SPLITS,
        ["piece_id", "group", "split"],
        [(piece["piece_id"], piece["group"], piece["split"]) for piece in pieces],
    )
    _plots(pieces)
    write_json(REPORT, _report(rows, pieces, drops, refused, params))


if __name__ == "__main__":
    run_stage(main)

"""What the vectors are worth: the same tune found again, the other half of a piece, styles and composers by
neighbours. Ours beside simpler ones.

`python -m benchmarks.embedding` after `dvc repro`; the song archive is read where it is beside the checkout.
"""

import argparse
import csv
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import f1_score
from symusic import Score

from benchmarks import report
from models.bundle import Bundle, open_bundle
from models.fill.readable import readable
from models.find.catalogue import Catalogue, Filters
from models.find.embedding import SKETCH, Part, parts_of, piece_vector
from models.tokens.tokenizer import NotRepresentable
from music.analysis.similarity import melody, ngram_codes
from music.score.errors import UnreadableScore
from music.score.form import bar_table, normalise
from music.score.passages import excerpt

SCORES = Path("data/prepared/scores.parquet")
HIGH = 0.8  # Jaccard of interval 6-grams from which two pieces are the same but for details
NEIGHBOURS = 15
PARTS = ("tunes", "halves", "styles", "composers")
Projector = Callable[[np.ndarray], np.ndarray]


def unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9), dtype=np.float32)


def projectors(bundle: Bundle) -> dict[str, Projector]:
    """Blocks to unit vectors: ours, and each block alone, standardised."""
    encoder = bundle.encoder
    hidden = 2 * bundle.network.config.width

    def block(first: int, last: int | None, centred: bool = True) -> Projector:
        mean, scale = (encoder.mean[first:last], encoder.scale[first:last]) if centred else (0.0, 1.0)
        return lambda x: unit((x[:, first:last] - mean) / scale)

    return {
        "contrastive encoder": encoder.project,
        "pooled hidden states": block(0, hidden),
        "interval n-grams": block(hidden, hidden + SKETCH, centred=False),
        "descriptors": block(hidden + SKETCH, None),
    }


class Tables:
    """Blocks of every passage of the catalogue, and which pieces are near-duplicates."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.catalogue = bundle, bundle.catalogue
        self.rows = {
            row["piece_id"]: row
            for row in pq.read_table(
                SCORES, columns=["piece_id", "group", "split", "style", "path", "collection"]
            ).to_pylist()
        }
        self.scores = [bundle.tokenizer.decode_ids(tokens) for tokens in self.catalogue.tokens]
        self.split = np.array([self.rows[item.id]["split"] for item in self.catalogue.items])

    @cached_property
    def blocks(self) -> np.ndarray:
        return self.bundle.encoder.blocks(
            self.bundle.network,
            [part for score in self.scores for part in parts_of(self.bundle.tokenizer, score)],
        )

    def catalogue_by(self, project: Projector) -> Catalogue:
        c = self.catalogue
        return Catalogue(c.items, project(self.blocks), c.owners, c.bars, c.tokens, c.words)

    def blocks_of(self, scores: Sequence[Score]) -> tuple[np.ndarray, np.ndarray, list[list[Part]]]:
        """Blocks of all passages of scores, the score of each, and the passages."""
        parts = [parts_of(self.bundle.tokenizer, score) for score in scores]
        flat = [part for mine in parts for part in mine]
        return (
            self.bundle.encoder.blocks(self.bundle.network, flat),
            np.repeat(np.arange(len(parts)), [len(mine) for mine in parts]),
            parts,
        )


def transposed(score: Score, random: np.random.Generator) -> Score:
    pitches = [int(p) for track in score.tracks if not track.is_drum for p in track.notes.numpy()["pitch"]]
    shift = int(random.integers(max(-6, -min(pitches)), min(6, 127 - max(pitches)) + 1))
    moved = score.copy()
    for track in moved.tracks:
        if not track.is_drum:
            track.shift_pitch(shift, inplace=True)
    return moved


def same_tune(tables: Tables) -> list[dict[str, Any]]:
    """Test pieces with near-duplicates, transposed at random: are they found among all pieces?"""
    c, random = tables.catalogue, np.random.default_rng(0)
    groups: dict[int, list[int]] = {}
    for row, item in enumerate(c.items):
        groups.setdefault(tables.rows[item.id]["group"], []).append(row)
    asked = [
        row
        for row in np.flatnonzero(tables.split == "test").tolist()
        if len(groups[tables.rows[c.items[row].id]["group"]]) > 1
    ]
    others = {
        row: [other for other in groups[tables.rows[c.items[row].id]["group"]] if other != row]
        for row in asked
    }
    grams = {
        row: ngram_codes(melody(tables.scores[row]), 6)
        for row in {*asked, *(o for mine in others.values() for o in mine)}
    }
    jaccard = {
        row: max(
            len(np.intersect1d(grams[row], grams[o])) / max(len(np.union1d(grams[row], grams[o])), 1)
            for o in others[row]
        )
        for row in asked
    }
    blocks, of, parts = tables.blocks_of([transposed(tables.scores[row], random) for row in asked])
    rows = []
    for name, project in projectors(tables.bundle).items():
        found = tables.catalogue_by(project)
        vectors = project(blocks)
        rank = []
        for n, row in enumerate(asked):
            hits = found.similar(
                vectors[of == n],
                [part.bars for part in parts[n]],
                100,
                found.allowed(Filters(), [c.items[row].id]),
                np.zeros(0, dtype=np.uint16),  # vectors alone are looked at here
            )
            rank.append(next((i + 1 for i, hit in enumerate(hits) if hit.row in others[row]), 10_000))
        for kind, chosen in (
            ("all", asked),
            (f"Jaccard >= {HIGH}", [row for row in asked if jaccard[row] >= HIGH]),
            ("chorales", [row for row in asked if c.items[row].style == "chorale"]),
        ):
            mine = np.array([rank[asked.index(row)] for row in chosen])
            rows.append(
                {
                    "vectors": name,
                    "near-duplicates": kind,
                    "pieces": len(chosen),
                    "among": len(c) - 1,
                    "recall@1": round(float((mine <= 1).mean()), 3),
                    "recall@10": round(float((mine <= 10).mean()), 3),
                    "MRR": round(float((1 / mine).mean()), 3),
                }
            )
            print(rows[-1], flush=True)
    return rows


def other_half(tables: Tables) -> list[dict[str, Any]]:
    """The first half of a test piece as the query, second halves of all test pieces to choose from."""
    rows_of_test = [
        row
        for row in np.flatnonzero(tables.split == "test").tolist()
        if len(bar_table(tables.scores[row])) >= 8
    ]
    halves = [[], []]  # type: list[list[Score]]
    for row in rows_of_test:
        bars = len(bar_table(tables.scores[row]))
        halves[0].append(excerpt(tables.scores[row], (0, bars // 2)))
        halves[1].append(excerpt(tables.scores[row], (bars // 2, bars)))
    sides = [tables.blocks_of(half) for half in halves]
    able = [n for n in range(len(rows_of_test)) if (sides[0][1] == n).any() and (sides[1][1] == n).any()]
    rows = []
    for name, project in projectors(tables.bundle).items():
        first, second = (
            np.stack([piece_vector(project(blocks[of == n])) for n in able]) for blocks, of, _ in sides
        )
        rank = (first @ second.T >= (first * second).sum(axis=1)[:, None] - 1e-7).sum(axis=1)
        rows.append(
            {
                "vectors": name,
                "pieces": len(able),
                "recall@1": round(float((rank <= 1).mean()), 3),
                "recall@10": round(float((rank <= 10).mean()), 3),
                "random, recall@10": round(10 / len(able), 3),
            }
        )
        print(rows[-1], flush=True)
    return rows


def neighbours(
    vectors: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int = NEIGHBOURS
) -> np.ndarray:
    """Label of each query by the vote of its nearest neighbours."""
    near = np.argsort(-(queries @ vectors.T), axis=1)[:, :k]
    return np.array([Counter(labels[row].tolist()).most_common(1)[0][0] for row in near])


def styles(tables: Tables) -> list[dict[str, Any]]:
    """Style (and dance) of test pieces by their nearest train pieces."""
    rows = []
    for kind in ("style", "rhythm"):
        labels = np.array([getattr(item, kind) for item in tables.catalogue.items])
        train, test = ((tables.split == split) & (labels != "") for split in ("train", "test"))
        common = Counter(labels[train].tolist()).most_common(1)[0][0]
        for name, project in projectors(tables.bundle).items():
            vectors = tables.catalogue_by(project).vectors
            found = neighbours(vectors[train], labels[train], vectors[test])
            rows.append(
                {
                    "named": kind,
                    "vectors": name,
                    "pieces": int(test.sum()),
                    "accuracy": round(float((found == labels[test]).mean()), 3),
                    "macro-F1": round(
                        float(f1_score(labels[test], found, average="macro", zero_division=0)), 3
                    ),
                    "most frequent": round(float((labels[test] == common).mean()), 3),
                }
            )
            print(rows[-1], flush=True)
    return rows


def composers(tables: Tables, archive: Path, most: int, composers_kept: int = 12) -> list[dict[str, Any]]:
    """Composer of song passages by the nearest passages of other songs (never the same song); the composers
    with the most songs."""
    with archive.with_name("lieder.tsv").open(newline="") as handle:
        told = {row["midi"]: row["composer"] for row in csv.DictReader(handle, delimiter="\t")}
    kept = {name for name, _ in Counter(told.values()).most_common(composers_kept)}
    scores, names = list[Score](), list[str]()
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            if told.get(name) not in kept or len(scores) >= most:
                continue
            try:
                song = normalise(
                    Score.from_midi(tar.extractfile(member).read()),  # type: ignore[union-attr]
                    ticks_per_quarter=tables.bundle.tokenizer.ticks_per_quarter,
                    velocity=80,
                )
                scores.append(readable(tables.bundle.tokenizer, song).score)
                names.append(told[name])
            except (UnreadableScore, RuntimeError):
                continue
    parts: list[Part] = []
    owner: list[int] = []
    for n, score in enumerate(scores):
        try:
            mine = parts_of(tables.bundle.tokenizer, score)
        except NotRepresentable:
            continue
        parts += mine
        owner += [n] * len(mine)
    blocks, owners, labels = (
        tables.bundle.encoder.blocks(tables.bundle.network, parts),
        np.array(owner),
        np.array([names[n] for n in owner]),
    )
    rows = []
    for name, project in projectors(tables.bundle).items():
        vectors = project(blocks)
        like = vectors @ vectors.T
        like[owners[:, None] == owners[None, :]] = -np.inf
        near = np.argsort(-like, axis=1)[:, :NEIGHBOURS]
        found = np.array([Counter(labels[row].tolist()).most_common(1)[0][0] for row in near])
        rows.append(
            {
                "vectors": name,
                "songs": len(set(owner)),
                "passages": len(labels),
                "composers": len(kept),
                "accuracy": round(float((found == labels).mean()), 3),
                "macro-F1": round(float(f1_score(labels, found, average="macro", zero_division=0)), 3),
                "most frequent": round(Counter(labels.tolist()).most_common(1)[0][1] / len(labels), 3),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--archive", type=Path, default=Path("../shared/data/lieder.tar.gz"))
    parser.add_argument("--songs", type=int, default=300)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    tables = Tables(open_bundle(Path("bundle")))
    if "tunes" in options.parts:
        tunes = same_tune(tables)
        ours = {
            row["near-duplicates"]: row["recall@10"]
            for row in tunes
            if row["vectors"] == "contrastive encoder"
        }
        report.write(
            "embedding_tunes",
            tunes,
            {
                "same_tune_recall_10": report.target(ours["all"], ">=", 0.9),
                "same_tune_high_recall_10": report.target(ours[f"Jaccard >= {HIGH}"], ">=", 0.98),
            },
            by="embedding",
        )
    if "halves" in options.parts:
        report.write("embedding_halves", other_half(tables), {}, by="embedding")
    if "styles" in options.parts:
        report.write("embedding_styles", styles(tables), {}, by="embedding")
    if "composers" in options.parts and options.archive.is_file():
        report.write(
            "embedding_composers", composers(tables, options.archive, options.songs), {}, by="embedding"
        )


if __name__ == "__main__":
    main()

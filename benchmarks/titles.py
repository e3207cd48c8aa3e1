"""Tunes of one title in two collections: is the other setting found? As served, beside its parts and two
plain ways.

    python -m benchmarks.titles

A query is a tune of one of the three tune collections whose title another of them has too (without articles,
punctuation and what stands in brackets); it is looked for among all pieces of the other collections. Titles
are not tunes: some pairs share nothing but the name, which is the same for every row. `far`: pairs whose
interval 6-grams have a Jaccard index below 0.1.
"""

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import models.find.catalogue as served
from benchmarks import report
from models.bundle import open_bundle
from models.find.catalogue import Catalogue
from music.analysis.similarity import melody, ngram_codes

SCORES, COLLECTIONS, FAR, K = Path("data/prepared/scores.parquet"), ("oneill", "ryan", "aird"), 0.1, 10
Rank = Callable[[int, np.ndarray], np.ndarray]  # row of the query, rows allowed -> rows of the ten nearest


def main() -> None:
    bundle = open_bundle(Path("bundle"))
    catalogue, t = bundle.catalogue, bundle.tokenizer
    titles = {
        row["piece_id"]: plain(row["title"])
        for row in pq.read_table(SCORES, columns=["piece_id", "title"]).to_pylist()
    }
    collection = np.array([item.collection for item in catalogue.items])
    by_title: dict[str, list[int]] = defaultdict(list)
    for row, item in enumerate(catalogue.items):
        if item.collection in COLLECTIONS and len(titles[item.id]) > 3:
            by_title[titles[item.id]].append(row)
    queries = {
        row: others
        for rows in by_title.values()
        for row in rows
        if (others := [other for other in rows if collection[other] != collection[row]])
    }
    grams = [ngram_codes(melody(t.decode_ids(tokens)), 6) for tokens in catalogue.tokens]
    far = {row for row, others in queries.items() if max(jaccard(grams[row], grams[o]) for o in others) < FAR}
    rows: list[dict[str, Any]] = []
    for name, rank in ways(catalogue, grams).items():
        found = {}
        for row, others in queries.items():
            allowed = np.isin(collection, COLLECTIONS) & (collection != collection[row])
            found[row] = bool(set(rank(row, allowed).tolist()) & set(others))
        near = [row for row in queries if row not in far]
        rows.append(
            {
                "way": name,
                "recall@10": round(float(np.mean(list(found.values()))), 3),
                f"pairs that share n-grams ({len(near)})": round(float(np.mean([found[r] for r in near])), 3),
                f"far ({len(far)})": round(float(np.mean([found[r] for r in far])), 3) if far else "",
                "queries": len(queries),
            }
        )
        print(rows[-1], flush=True)
    best = max(float(row["recall@10"]) for row in rows[3:])
    report.write(
        "titles", rows, {"as served, above n-grams": report.target(float(rows[0]["recall@10"]), ">=", best)}
    )


def plain(title: str) -> str:
    text = re.sub(r"\(.*?\)", "", (title or "").lower()).strip()
    text = re.sub(r"^(the|a|an) |, (the|a|an)$", "", text)
    return re.sub(r"[^a-z0-9]+", " ", text).strip()


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    return len(np.intersect1d(a, b)) / max(len(np.union1d(a, b)), 1)


def ways(catalogue: Catalogue, grams: list[np.ndarray]) -> dict[str, Rank]:
    """The search as served, its two parts alone, and n-grams counted exactly."""

    def search(weight: float) -> Rank:
        def rank(row: int, allowed: np.ndarray) -> np.ndarray:
            vectors, bars = catalogue.parts(row)
            kept, served.WORDS = served.WORDS, weight
            try:
                hits = catalogue.similar(vectors, bars, K, allowed, catalogue.words[row])
            finally:
                served.WORDS = kept
            return np.array([hit.row for hit in hits])

        return rank

    codes, owners = np.concatenate(grams), np.repeat(np.arange(len(grams)), [len(g) for g in grams])
    order = np.argsort(codes, kind="stable")
    codes, owners = codes[order], owners[order]
    sizes = np.array([len(g) for g in grams])

    def shared(row: int, weight: Callable[[int], float]) -> np.ndarray:
        total = np.zeros(len(grams))
        for code in grams[row]:
            first, last = np.searchsorted(codes, code), np.searchsorted(codes, code, side="right")
            total[owners[first:last]] += weight(last - first)
        return total

    def by_jaccard(row: int, allowed: np.ndarray) -> np.ndarray:
        both = shared(row, lambda _: 1.0)
        return np.argsort(-np.where(allowed, both / np.maximum(sizes + sizes[row] - both, 1), -1))[:K]

    def by_idf(row: int, allowed: np.ndarray) -> np.ndarray:
        both = shared(row, lambda count: float(np.log((1 + len(grams)) / (1 + count))) ** 2)
        return np.argsort(-np.where(allowed, both / np.sqrt(np.maximum(sizes, 1)), -1))[:K]

    return {
        "as served": search(served.WORDS),
        "vectors alone": search(0.0),
        "rare n-grams alone (3 to 5 intervals, hashed)": search(1.0),
        "6-grams, Jaccard": by_jaccard,
        "6-grams, idf-weighted": by_idf,
    }


if __name__ == "__main__":
    main()

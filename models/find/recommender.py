"""The recommender: what a piece is like and what other listeners chose, blended by weights that are learned.

Collaborative part: alternating least squares on implicit feedback (Hu, Koren & Volinsky 2008), trained with
the library `implicit`, a user folded in with one small solve. Content part: vectors of the catalogue. Blend:
a logistic regression on held-out choices, one set of weights for listeners with no, few, some and many likes.
N: items of the catalogue.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from models.find.catalogue import Catalogue
from models.find.interactions import Taste

PARTS = ("content", "nearest", "disliked", "listeners", "popularity", "unheard")
BUCKETS = (0, 1, 3, 10)  # least likes of a listener for each set of weights
CONFIDENCE = (
    20.0  # of one liking, above the 1 of what was never heard (Hu et al. use 40 for hours of television)
)


def bucket_of(likes: int) -> int:
    return int(np.searchsorted(BUCKETS, likes, side="right")) - 1


@dataclass(frozen=True)
class Recommender:
    """ids: items that listeners have met. factors (ids, F). popularity (ids,): log of listeners, 0-1. weights
    (BUCKETS, PARTS), and bias. origin: "listeners", or "simulated"."""

    ids: tuple[str, ...]
    factors: np.ndarray
    popularity: np.ndarray
    weights: np.ndarray
    regularisation: float
    origin: str

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids)}

    @cached_property
    def _gram(self) -> np.ndarray:
        return self.factors.T.astype(np.float64) @ self.factors + self.regularisation * np.eye(
            self.factors.shape[1]
        )

    def rows(self, catalogue: Catalogue) -> np.ndarray:
        """Row of each item of the catalogue among `ids`, -1 where no listener has met it."""
        return np.array([self._row_of.get(item.id, -1) for item in catalogue.items], dtype=np.int64)

    def listener(self, taste: Taste) -> np.ndarray:
        """Factors of a listener (F,), solved from what they liked and disliked."""
        met = [
            (self._row_of[item], weight)
            for item, weight in taste.weights.items()
            if item in self._row_of and weight
        ]
        return fold_in(
            self._gram,
            self.factors,
            np.array([row for row, _ in met], dtype=np.int64),
            np.array([weight for _, weight in met]),
        )

    def parts(
        self,
        catalogue: Catalogue,
        rows: np.ndarray,
        taste: Taste,
        extra: np.ndarray | None = None,
        extra_weights: Sequence[float] = (),
        among: Sequence[int] | None = None,
    ) -> np.ndarray:
        """(N, PARTS) of every item for a taste, or of the items `among`. rows: of `self.rows`; extra (X, E):
        vectors of liked and disliked music outside the catalogue, with their weights."""
        known = [
            (catalogue.row_of[item], weight)
            for item, weight in taste.weights.items()
            if item in catalogue.row_of and weight
        ]
        vectors = np.concatenate(
            [
                catalogue.vectors[[row for row, _ in known]],
                extra if extra is not None else np.zeros((0, catalogue.vectors.shape[1]), dtype=np.float32),
            ]
        )
        weights = np.array([weight for _, weight in known] + list(extra_weights), dtype=np.float32)
        offered = catalogue.vectors
        if among is not None:
            rows, offered = rows[among], offered[among]
        there = rows >= 0
        heard = np.where(there, rows, 0)
        collaborative = (
            np.where(there, self.factors[heard] @ self.listener(taste), 0.0)
            if len(self.ids)
            else np.zeros(len(rows))
        )
        popularity = np.where(there, self.popularity[heard], 0.0) if len(self.ids) else np.zeros(len(rows))
        return np.column_stack(
            [*content_parts(offered, vectors, weights), collaborative, popularity, ~there]
        ).astype(np.float32)

    def score(self, parts: np.ndarray, likes: int) -> np.ndarray:
        """(N,) from `parts`, for a listener with so many likes."""
        return np.asarray(parts @ self.weights[bucket_of(likes)])

    def worth(self, vector: np.ndarray, known: np.ndarray, weights: np.ndarray, likes: int) -> float:
        """Score of a piece outside the catalogue, by its vector (E,) alone; known (X, E), weights (X,): what
        was liked and disliked."""
        content = [float(part[0]) for part in content_parts(vector[None], known, weights)]
        return float(np.array([*content, 0.0, 0.0, 1.0]) @ self.weights[bucket_of(likes)])

    def spoke(self, parts: np.ndarray, row: int, likes: int) -> dict[str, float]:
        """How far each part lifted an item above the mean item, as shares of all lifts; the parts that did
        not are left out."""
        lift = self.weights[bucket_of(likes)] * (parts[row] - parts.mean(axis=0))
        total = float(lift[lift > 0].sum())
        return {
            name: round(float(value) / total, 3)
            for name, value in sorted(zip(PARTS, lift, strict=True), key=lambda pair: -pair[1])
            if value > 0 and total > 0
        }

    def save(self, path: Path) -> None:
        arrays = {
            name: np.ascontiguousarray(getattr(self, name), dtype=np.float32)
            for name in ("factors", "popularity", "weights")
        }
        save_file(
            arrays,
            path,
            # one entry: safetensors writes several in any order, and equal recommenders must be equal files
            metadata={
                "recommender": json.dumps(
                    {"ids": self.ids, "regularisation": self.regularisation, "origin": self.origin}
                )
            },
        )

    @classmethod
    def load(cls, path: Path) -> "Recommender":
        with safe_open(path, "numpy") as stored:
            told = json.loads(stored.metadata()["recommender"])
            return cls(
                tuple(told["ids"]),
                stored.get_tensor("factors"),
                stored.get_tensor("popularity"),
                stored.get_tensor("weights"),
                told["regularisation"],
                told["origin"],
            )


def content_parts(
    vectors: np.ndarray, known: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosine with the mean of what was liked, with the nearest of it, and with the nearest of what was
    disliked: (N,) each, 0 where there is none."""
    none = np.zeros(len(vectors), dtype=np.float32)
    liked, disliked = known[weights > 0], known[weights < 0]
    mean = (liked * weights[weights > 0, None]).sum(axis=0)
    norm = float(np.linalg.norm(mean))
    near = (vectors @ liked.T) if len(liked) else np.zeros((len(vectors), 1), dtype=np.float32)
    return (
        (vectors @ (mean / norm) if norm > 0 else none),
        near.max(axis=1),
        ((vectors @ disliked.T).max(axis=1) if len(disliked) else none),
    )


def fold_in(gram: np.ndarray, factors: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Least squares of one listener (F,): preference 1 for weights above 0, 0 for those below, with
    confidence by their size (Hu et al. 2008, eq. 4).

    gram: factors' own product (F, F) with the regularisation on its diagonal.
    """
    if not len(rows):
        return np.zeros(factors.shape[1], dtype=np.float32)
    mine, confidence = factors[rows].astype(np.float64), 1 + CONFIDENCE * np.abs(weights)
    matrix = gram + (mine * (confidence - 1)[:, None]).T @ mine
    return np.asarray(
        np.linalg.solve(matrix, (mine * (confidence * (weights > 0))[:, None]).sum(axis=0)), dtype=np.float32
    )


def diverse(
    score: np.ndarray,
    vectors: np.ndarray,
    allowed: np.ndarray,
    k: int,
    diversity: float,
    exploration: float,
    seed: int,
    pool: int = 300,
    unheard: np.ndarray | None = None,
) -> list[int]:
    """Rows to show. Maximal marginal relevance (Carbonell & Goldstein 1998) over the best `pool`: diversity 0
    is by score alone, 1 by unlikeness alone.

    exploration: share of places given to items drawn at random, weighted by rank, half of them from those
    that nobody has met (`unheard`, bool (N,)), so that what was never shown can be.
    """
    count = min(k, int(allowed.sum()))
    if not count:
        return []
    ranked = np.where(allowed, score, -np.inf)
    order = np.argsort(-ranked, kind="stable")[: int(allowed.sum())]
    fresh = order[unheard[order]][:pool] if unheard is not None and exploration else order[:0]
    best = np.unique(np.concatenate([order[: max(pool, 4 * k)], fresh]))
    best = best[np.argsort(-ranked[best], kind="stable")]
    new = np.isin(best, fresh)
    relevance = score[best]
    span = float(relevance.max() - relevance.min())
    relevance = (relevance - relevance.min()) / span if span > 0 else np.ones(len(best))
    random = np.random.default_rng(seed)
    explored = random.random(count) < exploration
    alike = np.zeros(len(best))
    left = np.ones(len(best), dtype=bool)
    chosen: list[int] = []
    for place in range(count):
        worth = np.where(left, (1 - diversity) * relevance - diversity * alike, -np.inf)
        if explored[place]:
            some = left & new if (left & new).any() and random.random() < 0.5 else left
            chances = some / np.maximum(np.cumsum(some), 1)
            at = int(random.choice(len(best), p=chances / chances.sum()))
        else:
            at = int(worth.argmax())
        left[at] = False
        chosen.append(int(best[at]))
        alike = np.maximum(alike, vectors[best] @ vectors[best[at]])
    return chosen

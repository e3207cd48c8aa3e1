"""The catalogue: pieces that can be found, with their vectors, labels and descriptors, and the search among
them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from models.find.embedding import piece_vector
from models.find.index import ExactIndex, VectorIndex, make_index
from models.find.words_index import WordsIndex
from music.analysis.descriptors import NAMES

LABELS = (
    "style",
    "rhythm",
    "metre",
    "key",
    "mode",
    "composer",
    "collection",
    "licence",
)  # what can be filtered by
WORDS = 0.8  # weight of shared n-grams: `python -m benchmarks.embedding`
CANDIDATES = 400  # passages that are looked at for each passage of a query, where the index is not exact


@dataclass(frozen=True)
class Item:
    """One piece. `descriptors`: music/analysis/descriptors.py of the whole piece."""

    id: str
    collection: str
    licence: str
    style: str
    rhythm: str
    metre: str
    key: str
    composer: str
    bars: int
    notes: int
    descriptors: dict[str, float]

    @property
    def mode(self) -> str:
        return self.key.partition(" ")[2]


@dataclass(frozen=True)
class Filters:
    """What an answer must be. labels: {"style": ("irish",)}, any of several; ranges: {"note_density": (1.0,
    2.0)}, both ends included."""

    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Match:
    """Bars of the query, bars of the item, and the cosine of the two."""

    query_bars: tuple[int, int]
    bars: tuple[int, int]
    likeness: float


@dataclass(frozen=True)
class Hit:
    row: int
    likeness: float
    matches: list[Match]


class Catalogue:
    """Items with a vector each (N, E), and their passages: vectors (M, E), the item of each (M,), rising, and
    its bars (M, 2); of each item its tokens, and the distinct buckets of its interval n-grams
    (models/find/words_index.py)."""

    def __init__(
        self,
        items: Sequence[Item],
        passages: np.ndarray,
        owners: np.ndarray,
        bars: np.ndarray,
        tokens: Sequence[np.ndarray],
        words: Sequence[np.ndarray],
        faiss_past: int = 200_000,
    ) -> None:
        if (np.diff(owners) < 0).any() or len(set(owners.tolist())) != len(items):
            raise ValueError("every item needs a passage, and passages are in the order of their items")
        self.items, self.passages, self.owners, self.bars, self.tokens = (
            list(items),
            np.asarray(passages, dtype=np.float32),
            owners,
            bars,
            list(tokens),
        )
        self.words = list(words)
        self._words_index = WordsIndex(self.words)
        self.starts = np.searchsorted(owners, np.arange(len(self.items) + 1))
        self.vectors = (
            np.stack(
                [
                    piece_vector(self.passages[a:b])
                    for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)
                ]
            )
            if self.items
            else np.zeros((0, passages.shape[1]), dtype=np.float32)
        )
        self.row_of = {item.id: row for row, item in enumerate(self.items)}
        self._index: VectorIndex = make_index(self.passages, faiss_past)
        self._labels = {
            name: np.array([getattr(item, name) for item in self.items], dtype=object) for name in LABELS
        }
        self._descriptors = np.array(
            [[item.descriptors[name] for name in NAMES] for item in self.items], dtype=np.float32
        ).reshape(-1, len(NAMES))
        self.spread = (
            np.maximum(self._descriptors.std(axis=0), 1e-6)
            if self.items
            else np.ones(len(NAMES), dtype=np.float32)
        )

    def __len__(self) -> int:
        return len(self.items)

    def allowed(self, filters: Filters, without: Iterable[str] = ()) -> np.ndarray:
        """Bool (N,). Raises ValueError naming what can be filtered by."""
        mask = np.ones(len(self), dtype=bool)
        for name, wanted in filters.labels.items():
            if name not in LABELS:
                raise ValueError(f"there is no label {name!r}; there are {', '.join(LABELS)}")
            known = set(self._labels[name].tolist())
            unknown = [value for value in wanted if value not in known]
            if unknown:
                raise ValueError(
                    f"no item has {name} {', '.join(map(repr, unknown))}; there are "
                    f"{', '.join(sorted(v for v in known if v)[:40])}"
                )
            mask &= np.isin(self._labels[name], list(wanted))
        for name, (low, high) in filters.ranges.items():
            if name not in NAMES:
                raise ValueError(f"there is no descriptor {name!r}; there are {', '.join(NAMES)}")
            column = self._descriptors[:, NAMES.index(name)]
            mask &= (column >= low) & (column <= high)
        mask[[self.row_of[i] for i in without if i in self.row_of]] = False
        return mask

    def similar(
        self,
        queries: np.ndarray,
        query_bars: Sequence[tuple[int, int]],
        k: int,
        allowed: np.ndarray,
        words: np.ndarray,
    ) -> list[Hit]:
        """Items nearest to the passages (Q, E) of a query and to its `words`, distinct buckets of n-grams.

        The likeness of an item is a mean of three: over the passages of the query, the cosine of the nearest
        passage of the item (Khattab & Zaharia 2020 call it late interaction), the cosine of the two pieces as
        wholes, and, with the weight WORDS, the cosine of their rare n-grams: vectors tell kinds of music,
        n-grams tell tunes.
        """
        if not allowed.any():
            return []
        whole = self.vectors @ piece_vector(queries)  # (N,)
        shared = self._words_index.likeness(words)
        if isinstance(self._index, ExactIndex):
            every = queries @ self.passages.T  # (Q, M)
            best = np.maximum.reduceat(every, self.starts[:-1], axis=1)  # (Q, N)
            score = (1 - WORDS) * (best.mean(axis=0) + whole) / 2 + WORDS * shared
            score = np.where(allowed, score, -np.inf)
        else:
            _, rows = self._index.search(queries, CANDIDATES)
            named = np.argpartition(-shared, min(CANDIDATES, len(shared) - 1))[:CANDIDATES]
            near = np.union1d(self.owners[rows[rows >= 0]], named)
            score = np.full(len(self), -np.inf, dtype=np.float32)
            for row in near[allowed[near]]:
                mine = queries @ self.passages[self.starts[row] : self.starts[row + 1]].T
                score[row] = (1 - WORDS) * (float(mine.max(axis=1).mean()) + whole[row]) / 2 + WORDS * shared[
                    row
                ]
        count = min(k, int(np.isfinite(score).sum()))
        chosen = np.argpartition(-score, count - 1)[:count] if count else np.zeros(0, dtype=np.int64)
        return [
            self._hit(int(row), float(score[row]), queries, query_bars)
            for row in chosen[np.argsort(-score[chosen], kind="stable")]
        ]

    def _hit(
        self,
        row: int,
        likeness: float,
        queries: np.ndarray,
        query_bars: Sequence[tuple[int, int]],
        most: int = 3,
    ) -> Hit:
        start = int(self.starts[row])
        pairs = queries @ self.passages[start : int(self.starts[row + 1])].T  # (Q, its passages)
        found = [
            Match(
                query_bars[q],
                tuple(self.bars[start + int(p)].tolist()),  # type: ignore[arg-type]
                round(float(pairs[q, p]), 4),
            )
            for q, p in enumerate(pairs.argmax(axis=1))
        ]
        return Hit(row, round(likeness, 4), sorted(found, key=lambda match: -match.likeness)[:most])

    def parts(self, row: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Vectors of the passages of an item and their bars."""
        inside = slice(int(self.starts[row]), int(self.starts[row + 1]))
        return self.passages[inside], [(int(a), int(b)) for a, b in self.bars[inside].tolist()]

    def save(self, path: Path) -> None:
        """One safetensors file; vectors as 16-bit floats."""
        arrays = {
            "passages": self.passages.astype(np.float16),
            "owners": self.owners.astype(np.int32),
            "bars": self.bars.astype(np.int32),
            "tokens": np.concatenate([*self.tokens, np.zeros(0, dtype=np.uint16)]).astype(np.uint16),
            "starts": np.cumsum([0, *map(len, self.tokens)]).astype(np.int64),
            "words": np.concatenate([*self.words, np.zeros(0, dtype=np.uint16)]).astype(np.uint16),
            "word_starts": np.cumsum([0, *map(len, self.words)]).astype(np.int64),
        }
        save_file(arrays, path, metadata={"items": json.dumps([asdict(item) for item in self.items])})

    @classmethod
    def load(cls, path: Path, faiss_past: int = 200_000) -> "Catalogue":
        with safe_open(path, "numpy") as stored:
            items = [Item(**row) for row in json.loads(stored.metadata()["items"])]
            tokens = np.split(stored.get_tensor("tokens"), stored.get_tensor("starts")[1:-1])
            words = [np.zeros(0, dtype=np.uint16)] * len(items)  # of a catalogue from before they were kept
            if "words" in stored.keys():  # noqa: SIM118 - no iterator of its own
                words = np.split(stored.get_tensor("words"), stored.get_tensor("word_starts")[1:-1])
            return cls(
                items,
                stored.get_tensor("passages"),
                stored.get_tensor("owners"),
                stored.get_tensor("bars"),
                tokens if items else [],
                words if items else [],
                faiss_past,
            )

    def indexed(self, faiss_past: int) -> "Catalogue":
        """The same items; past so many passages they are searched by FAISS."""
        return Catalogue(
            self.items, self.passages, self.owners, self.bars, self.tokens, self.words, faiss_past
        )

    def without(self, ids: Iterable[str]) -> "Catalogue":
        """The catalogue less some items."""
        gone = set(ids)
        return self._of([row for row, item in enumerate(self.items) if item.id not in gone])

    def _of(self, rows: Sequence[int]) -> "Catalogue":
        places = np.concatenate(
            [np.arange(self.starts[row], self.starts[row + 1]) for row in rows]
            or [np.zeros(0, dtype=np.int64)]
        )
        counts = [int(self.starts[row + 1] - self.starts[row]) for row in rows]
        return Catalogue(
            [self.items[row] for row in rows],
            self.passages[places],
            np.repeat(np.arange(len(rows)), counts),
            self.bars[places],
            [self.tokens[row] for row in rows],
            [self.words[row] for row in rows],
        )

    def with_items(self, other: "Catalogue") -> "Catalogue":
        """Both together; where an id is in both, the other's stays."""
        mine = self.without(set(other.row_of) & set(self.row_of))
        return Catalogue(
            [*mine.items, *other.items],
            np.concatenate([mine.passages, other.passages]),
            np.concatenate([mine.owners, other.owners + len(mine)]),
            np.concatenate([mine.bars, other.bars]),
            [*mine.tokens, *other.tokens],
            [*mine.words, *other.words],
        )

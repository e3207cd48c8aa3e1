"""What finding is asked and answers."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.find.catalogue import Catalogue, Hit
from models.find.embedding import Encoder
from models.find.reasons import Why
from models.find.recommender import Recommender
from models.network.reading import Reads
from models.tokens.tokenizer import CellTokenizer


class Unanswerable(ValueError):
    """A question that cannot be answered; the message says what can, `field` where it lies."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Finding(Protocol):
    """What finding needs of a model: a bundle has it all."""

    @property
    def tag(self) -> str: ...
    @property
    def tokenizer(self) -> CellTokenizer: ...
    @property
    def reader(self) -> Reads: ...
    @property
    def encoder(self) -> Encoder: ...
    @property
    def catalogue(self) -> Catalogue: ...
    @property
    def recommender(self) -> Recommender: ...


@dataclass(frozen=True)
class Found:
    """One item like a query, and why."""

    hit: Hit
    why: Why


@dataclass(frozen=True)
class Suggestion:
    """One item for a taste: its score, the parts that lifted it, the liked item nearest to it ("" where
    nothing is liked) and why the two are alike."""

    row: int
    score: float
    spoke: dict[str, float]
    like: str
    why: Why | None


@dataclass(frozen=True)
class Query:
    """Music to compare with: vectors of its passages, their bars, its descriptors and labels, and the
    distinct buckets of its n-grams."""

    vectors: np.ndarray
    bars: list[tuple[int, int]]
    descriptors: dict[str, float]
    labels: dict[str, str]
    words: np.ndarray

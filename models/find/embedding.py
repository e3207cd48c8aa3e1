"""What a passage is like, as one vector: hidden states of the language model, interval n-grams and
descriptors, through a learned head.

Nothing of it depends on the key: passages are brought to one pitch first (music/score/passages.py). P:
passages, D: width of a block.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from symusic import Score

from models.judge.style_classifier import features
from models.network.reading import Reads
from models.tokens.labels import Labels
from models.tokens.place import WIDTH, Told
from models.tokens.place_reader import PlaceReader
from models.tokens.tokenizer import CellTokenizer
from music.analysis.words import buckets, interval_words
from music.score.errors import UnreadableScore
from music.score.form import bar_table
from music.score.passages import FEWEST_NOTES, excerpt, sounding, spans, unkeyed

BUCKETS, SKETCH = 2**15, 1024  # hashed n-grams: of their document frequencies, and of the sketch of a passage
BLOCKS = ("hidden", "words", "shape")
MOST_TOKENS = 256  # of a passage that the network reads


@dataclass(frozen=True)
class Part:
    """A passage: bars [first, last) of its piece, its tokens with their places for the network (n, WIDTH),
    its interval words, and its shape (models/judge/style_classifier.features)."""

    bars: tuple[int, int]
    ids: np.ndarray
    words: np.ndarray
    shape: np.ndarray


def parts_of(
    tokenizer: CellTokenizer, score: Score, cuts: Sequence[tuple[int, int]] | None = None
) -> list[Part]:
    """Passages of a score in normal form with enough notes. Raises NotRepresentable for what has no token."""
    parts, places = [], PlaceReader(tokenizer)
    for bars in cuts or spans(len(bar_table(score))):
        passage = excerpt(score, bars)
        if passage.note_num() < FEWEST_NOTES:
            continue
        passage = unkeyed(sounding(passage))
        ids = tokenizer.encode_score(passage)[0][:MOST_TOKENS]
        told = Told(len(passage.tracks))
        parts.append(
            Part(
                bars,
                places.read(np.concatenate([tokenizer.prefix(Labels()), ids]), told),
                interval_words(passage),
                features(passage),
            )
        )
    return parts


def hidden_block(network: Reads, ids: Sequence[np.ndarray], batch_tokens: int = 4096) -> np.ndarray:
    """Mean hidden state after half of the layers and after the last, float32 (P, 2 * width)."""
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    out = np.zeros((len(ids), 2 * network.config.width), dtype=np.float32)
    while order:
        width = len(ids[order[-1]])
        batch, order = order[-max(batch_tokens // width, 1) :], order[: -max(batch_tokens // width, 1)]
        padded = np.zeros((len(batch), width, WIDTH), dtype=np.int32)
        for row, i in enumerate(batch):
            padded[row, : len(ids[i])] = ids[i]
        out[batch] = network.mean_states(padded, np.array([len(ids[i]) for i in batch]))
    return out


def document_frequencies(words: Sequence[np.ndarray]) -> np.ndarray:
    """Inverse document frequency of each bucket, float32 (BUCKETS,)."""
    counts = np.zeros(BUCKETS)
    for each in words:
        counts[np.unique(buckets(each, BUCKETS))] += 1
    return np.log((1 + len(words)) / (1 + counts)).astype(np.float32)


def words_block(words: Sequence[np.ndarray], idf: np.ndarray) -> np.ndarray:
    """Unit-length count sketches of TF-IDF vectors, float32 (P, SKETCH): inner products are kept up to noise
    (Charikar et al. 2002)."""
    out = np.zeros((len(words), SKETCH), dtype=np.float32)
    for row, each in enumerate(words):
        distinct, counts = np.unique(each, return_counts=True)
        place = buckets(distinct, 2 * SKETCH)  # the last bit is the sign
        np.add.at(
            out[row], place // 2, np.sqrt(counts) * idf[buckets(distinct, BUCKETS)] * (1 - 2 * (place % 2))
        )
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


@dataclass(frozen=True)
class Encoder:
    """Blocks to unit vectors: standardise, two layers with GELU and a straight path beside them. Weights are
    NumPy, so that the service needs no more."""

    idf: np.ndarray  # (BUCKETS,)
    mean: np.ndarray  # (D,) of all blocks together
    scale: np.ndarray
    first: np.ndarray  # (W, D)
    first_bias: np.ndarray
    second: np.ndarray  # (E, W)
    straight: np.ndarray  # (E, D)

    @property
    def width(self) -> int:
        return len(self.second)

    def blocks(self, network: Reads, parts: Sequence[Part]) -> np.ndarray:
        """(P, D) of passages."""
        return np.concatenate(
            [
                hidden_block(network, [p.ids for p in parts]),
                words_block([p.words for p in parts], self.idf),
                np.stack([p.shape for p in parts]),
            ],
            axis=1,
        ).astype(np.float32)

    def project(self, blocks: np.ndarray) -> np.ndarray:
        """Unit vectors (P, E) of blocks."""
        x = (blocks - self.mean) / self.scale
        inner = x @ self.first.T + self.first_bias
        inner = (
            0.5 * inner * (1 + np.tanh(0.7978845608 * (inner + 0.044715 * inner**3)))
        )  # GELU (Hendrycks & Gimpel 2016), tanh form
        out = inner @ self.second.T + x @ self.straight.T
        return np.asarray(
            out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9), dtype=np.float32
        )

    def embed(self, network: Reads, parts: Sequence[Part]) -> np.ndarray:
        return self.project(self.blocks(network, parts))

    def save(self, path: Path) -> None:
        save_file(
            {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in vars(self).items()},
            path,
            metadata={"blocks": json.dumps(BLOCKS)},
        )

    @classmethod
    def load(cls, path: Path) -> "Encoder":
        with safe_open(path, "numpy") as stored:
            # no iterator of its own
            return cls(**{name: stored.get_tensor(name) for name in list(stored.keys())})


def piece_vector(passages: np.ndarray) -> np.ndarray:
    """Unit mean of the vectors of a piece's passages (P, E)."""
    mean = passages.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), dtype=np.float32)


def embed_score(
    encoder: Encoder, network: Reads, tokenizer: CellTokenizer, score: Score
) -> tuple[list[Part], np.ndarray]:
    """Passages of a score and their vectors. Raises UnreadableScore where it is too short."""
    parts = parts_of(tokenizer, score)
    if not parts:
        raise UnreadableScore(
            f"the score is too short to compare: a passage needs {FEWEST_NOTES} notes or more"
        )
    return parts, encoder.embed(network, parts)

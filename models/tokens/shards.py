"""Token shards: one flat uint16 file a split, memory-mapped, with an index of pieces and bars."""

import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from symusic import Score

from models.tokens.labels import Labels
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import STATISTICS
from music.score.form import first_bars

COLUMNS = ("piece_id", "collection", "style", "rhythm", "key", "tempo", "notes", "low", "high")


class ShardWriter:
    """Writes `<split>.bin`, `<split>.npz` (starts, lengths, bar starts, statistics of cells) and
    `<split>.json` (a record a piece)."""

    def __init__(self, folder: Path, split: str) -> None:
        self._folder, self._split = folder, split
        self._starts, self._bars, self._records = [0], [np.zeros(0, dtype=np.int64)], list[dict[str, Any]]()
        self._bar_counts: list[int] = []
        self._statistics = [np.zeros((0, len(STATISTICS)), dtype=np.int32)]
        self._places, self._chords = ([np.zeros((0, 4), dtype=np.int16)], [np.zeros((0, 5), dtype=np.int32)])
        self._file = (folder / f"{split}.bin").open("wb")
        self.notes = 0

    @property
    def pieces(self) -> int:
        return len(self._records)

    @property
    def tokens(self) -> int:
        return self._starts[-1]

    def add(
        self,
        ids: np.ndarray,
        bar_starts: np.ndarray,
        statistics: np.ndarray,
        places: np.ndarray,
        chords: np.ndarray,
        **record: Any,
    ) -> None:
        """Append one piece: tokens, index of its Bar tokens, `cell_statistics`, `bar_places` and `chords_of`
        its score; `record` has the fields of COLUMNS."""
        self._places.append(places)
        self._chords.append(chords)
        self._statistics.append(statistics.reshape(-1, len(STATISTICS)))
        self._file.write(ids.astype(np.uint16).tobytes())
        self._starts.append(self._starts[-1] + len(ids))
        self._bars.append(bar_starts)
        self._bar_counts.append(len(bar_starts))
        self._records.append({name: record[name] for name in COLUMNS})
        self.notes += record["notes"]

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            bar_index = np.concatenate([[0], np.cumsum(self._bar_counts)]).astype(np.int64)
            np.savez(
                self._folder / f"{self._split}.npz",
                starts=np.array(self._starts),
                bars=np.concatenate(self._bars),
                bar_index=bar_index,
                statistics=np.concatenate(self._statistics),
                cell_index=np.cumsum([len(cells) for cells in self._statistics]),
                places=np.concatenate(self._places).astype(np.int16),
                chords=np.concatenate(self._chords).astype(np.int32),
                chord_index=np.cumsum([len(chords) for chords in self._chords]),
            )
            (self._folder / f"{self._split}.json").write_text(json.dumps(self._records))


class Shard:
    """Read side: `piece(i)` is a view of the memory-mapped tokens, uint16 (n,); `bar_starts(i)` indexes its
    Bar tokens."""

    def __init__(self, folder: Path, split: str) -> None:
        self.records: list[dict[str, Any]] = json.loads((folder / f"{split}.json").read_text())
        with np.load(folder / f"{split}.npz") as index:
            self.starts, self._bars, self._bar_index = index["starts"], index["bars"], index["bar_index"]
            self._statistics, self._cell_index = index["statistics"], index["cell_index"]
            self._places = index["places"]
            self._chords, self._chord_index = index["chords"], index["chord_index"]
        self._tokens = np.memmap(folder / f"{split}.bin", dtype=np.uint16, mode="r")
        if len(self._tokens) != self.starts[-1]:
            raise ValueError(
                f"{folder}/{split}.bin has {len(self._tokens)} tokens, its index {self.starts[-1]}: run "
                f"`dvc repro tokenise` again"
            )

    def __len__(self) -> int:
        return len(self.records)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)

    def piece(self, i: int) -> np.ndarray:
        return self._tokens[self.starts[i] : self.starts[i + 1]]

    def bar_starts(self, i: int) -> np.ndarray:
        return self._bars[self._bar_index[i] : self._bar_index[i + 1]]

    def labels(self, i: int) -> Labels:
        """Labels of the whole piece."""
        record = self.records[i]
        return Labels(
            record["style"], record["rhythm"], record["key"], len(self.bar_starts(i)), tempo=record["tempo"]
        )

    def statistics(self, i: int) -> np.ndarray:
        """Statistics of the cells of a piece (music/score/cells.py), int32 (bars, tracks, 6)."""
        return self._statistics[self._cell_index[i] : self._cell_index[i + 1]].reshape(
            len(self.bar_starts(i)), -1, len(STATISTICS)
        )

    def places(self, i: int) -> np.ndarray:
        """Place of each bar in the form (music/analysis/sections.py), int16 (bars, 4)."""
        return self._places[self._bar_index[i] : self._bar_index[i + 1]]

    def chords(self, i: int) -> np.ndarray:
        """Chord of each beat (music/analysis/chords.py), int32 (beats, 5)."""
        return self._chords[self._chord_index[i] : self._chord_index[i + 1]]


def data_digest(folder: Path) -> str:
    """sha256 over the token files of a folder: what a network is trained on."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def opening(shard: Shard, tokenizer: CellTokenizer, i: int, bars: int) -> Score:
    """The bars of a piece that a prompt like it asks for."""
    piece = tokenizer.decode_ids(shard.piece(i))
    return first_bars(piece, bars // 2 if len(piece.tracks) > 1 else bars)

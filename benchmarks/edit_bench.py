"""What the benchmarks of edits share: the champion, the test pieces as files, and a count of what was
done."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.bundle import Bundle
from models.decoding.loop import Decoder
from models.edit.edit import Answer, edit_file
from models.edit.tasks import Edit
from models.fill.fill import fill
from models.tokens.shards import Shard
from music.score.file_cells import FileCells

TOKENS = Path("data/tokens")


class Bench:
    """The champion, the test pieces as files, and a count of what was done."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.t = bundle, bundle.tokenizer
        self.decoder = bundle.decoder(16)
        self.test = Shard(TOKENS, "test")
        self.records = self.test.records
        self.files = [FileCells.of(self.t.decode_ids(self.test.piece(i))) for i in range(len(self.test))]
        self.edits = self.kept = 0

    def edit(self, file: FileCells, edit: Edit, decoder: Decoder | None = None) -> Answer | None:
        """One edit; None where it cannot be done (told why by a ValueError)."""
        try:
            (answer,) = edit_file(
                self.t,
                self.bundle.judges,
                lambda requests: fill(decoder or self.decoder, self.t, requests),
                file,
                edit,
            )
        except ValueError:
            return None
        self.edits += 1
        self.kept += answer.contract.kept
        return answer

    def regions(
        self, count: int, bars: int, seed: int, of: Callable[[int], bool] = lambda i: True
    ) -> list[tuple[int, tuple[int, int]]]:
        """(piece, bars) drawn from pieces long enough, with at least two bars around the region where there
        are."""
        random = np.random.default_rng(seed)
        able = [i for i in range(len(self.files)) if self.files[i].shape[0] >= bars + 4 and of(i)]
        chosen = [int(random.choice(able)) for _ in range(count)]
        return [
            (i, (first, first + bars))
            for i in chosen
            for first in [int(random.integers(2, self.files[i].shape[0] - bars - 1))]
        ]

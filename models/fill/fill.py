"""Fill: the one operation. Cells of a region are written anew under controls and locks; every other cell
stays as it is, note for note."""

import time
from collections.abc import Sequence

from models.decoding.grammar import Grammar
from models.decoding.loop import Decoder, generate
from models.fill.region import Region
from models.fill.request import Filled, FillRequest
from models.tokens.tokenizer import CellTokenizer


def fill(
    decoder: Decoder,
    tokenizer: CellTokenizer,
    requests: Sequence[FillRequest],
    deadline_s: float | None = None,
) -> list[Filled]:
    """Answers in order, all decoded together. Raises ValueError (LockError, NotRepresentable) for what cannot
    be asked, TimeoutError past the deadline."""
    deadline = time.monotonic() + deadline_s if deadline_s is not None else float("inf")
    regions = [Region(tokenizer, request) for request in requests]
    written = generate(
        decoder,
        Grammar(tokenizer, decoder.slots),
        [region.job(decoder.context, deadline) for region in regions],
    )
    return [region.answer(ids) for region, ids in zip(regions, written, strict=True)]

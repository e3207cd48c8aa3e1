"""Carries out what /v1/edit asks for, by the model or by rule, within bounds and a deadline."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from models.decoding.batching import Busy, Ticket
from models.edit.by_rule import RULES, Rule
from models.edit.edit import LIMITS, Answer, apply_rule, edit_file
from models.edit.tasks import Edit, bars_of, tracks_of
from models.fill.request import ContractBroken, Filled, FillRequest
from models.judge.scorecard import Judged, judge_around
from music.reading.files import Reading
from music.score.errors import UnreadableScore
from music.score.file_cells import FileCells
from serving.engine import UPLOAD, Engine, locks_of
from serving.errors import Crowded, Refused
from serving.in_flight import current
from serving.schemas import MAX_CELLS

if TYPE_CHECKING:
    from serving.edit import EditRequest

EDITED = replace(LIMITS, max_bytes=UPLOAD.max_bytes)


RULE_FIELDS = {option for rule in RULES.values() for option in rule.options} - {"seed"}


@dataclass(frozen=True)
class EditOutcome:
    """Alternatives with their scorecards (or why there is none), and the scorecard before."""

    answers: list[Answer]
    before: Judged | None
    after: list[Judged | None]
    notes: list[str]


def carry_out(engine: Engine, request: "EditRequest", reading: Reading, seed: int) -> EditOutcome:
    """Carry out a request on a file. Raises Refused, Crowded, ContractBroken (a bug of ours),
    InterruptedError (cancelled)."""
    seconds = current().seconds
    deadline = time.monotonic() + seconds
    bars = (request.bars[0] - 1, request.bars[1]) if request.bars else None
    tracks = tuple(k - 1 for k in request.tracks) if request.tracks is not None else None
    try:
        file = FileCells.of(reading.score)
        if request.operation in RULES:
            rule = Rule(
                **{name: getattr(request, name) for name in request.model_fields_set & RULE_FIELDS}, seed=seed
            )
            answers = [apply_rule(file, request.operation, rule, bars, tracks, reading.source)]
        else:
            wanted = Edit(
                request.operation,
                bars,
                tracks,
                request.style,
                request.rhythm,
                request.key,
                request.metre,
                request.controls.given(),
                locks_of(request.locks, engine.tokenizer),
                request.strength,
                request.length,
                request.before,
                None if request.melody is None else request.melody - 1,
                tuple(request.instruments),
                chords=request.chords,
                keep=tuple((each.track - 1, each.note - 1) for each in request.keep),
                guidance=request.guidance,
                temperature=request.temperature,
                top_p=request.top_p,
                seed=seed,
            )
            engine.check_controls(wanted.controls)
            _bounded(wanted, file, request.n)
            answers = edit_file(
                engine.tokenizer,
                engine.bundle.judges,
                lambda requests: _fill(engine, requests, deadline),
                file,
                wanted,
                request.n,
                reading.source,
            )
    except ContractBroken:
        raise
    except Busy as error:
        raise Crowded(str(error)) from error
    except TimeoutError as error:
        raise Refused(
            f"not written within {seconds:.0f} s: name fewer bars or tracks, or ask for fewer alternatives"
        ) from error
    except (UnreadableScore, ValueError) as error:
        raise Refused(str(error)) from error
    before, _ = judge_around(engine.bundle, file, bars)
    after = [judge_around(engine.bundle, answer.file, bars) for answer in answers]
    return EditOutcome(answers, before, [card for card, _ in after], [why for _, why in after])


def _bounded(wanted: Edit, file: FileCells, n: int) -> None:
    """Raises ValueError for a region too large to be written at once."""
    first, last = bars_of(wanted, file)
    cells = (
        wanted.length * len(tracks_of(wanted, file))
        if wanted.operation == "continue"
        else (last - first) * max(len(tracks_of(wanted, file)), 3 * (wanted.operation == "harmonise"))
    )
    if cells > MAX_CELLS or cells * n > 4 * MAX_CELLS:
        raise ValueError(
            f"the region is {cells} cells (bars times tracks), {n} times; at most {MAX_CELLS} "
            f"are written at once, {4 * MAX_CELLS} in all: name fewer bars or tracks, part by part"
        )


def _fill(engine: Engine, requests: Sequence[FillRequest], deadline: float) -> list[Filled]:
    tickets = list[Ticket[Filled]]()
    try:
        for request in requests:
            tickets.append(engine.submit(request, deadline))
        return [ticket.result() for ticket in tickets]
    finally:
        for ticket in tickets:
            ticket.cancel()

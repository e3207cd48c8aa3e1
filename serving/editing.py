"""What POST /v1/edit does: read a score, carry out one operation, compare. No HTTP here."""

import base64
import binascii
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.decoding.batching import Busy
from models.edit.by_rule import RULES, Rule
from models.edit.edit import LIMITS, Answer, apply_rule, edit_file
from models.edit.tasks import Edit, bars_of, tracks_of
from models.fill.fill import ContractBroken, Filled, FillRequest, Region
from models.judge.scorecard import Judged, judge_around
from monitoring.log import EventLog
from music.reading.files import read_midi
from music.score.errors import UnreadableScore
from music.score.file_cells import FileCells
from music.score.form import to_midi
from serving.cancelling import Cancelling
from serving.engine import DEADLINE_S, UPLOAD, Engine, locks_of
from serving.errors import Crowded, Refused
from serving.schemas import (
    MAX_CELLS,
    Alternative,
    CellChange,
    ContractAnswer,
    EditAnswer,
    EditRequest,
    Scorecard,
)

EDITED = replace(LIMITS, max_bytes=UPLOAD.max_bytes)
RULE_FIELDS = {option for rule in RULES.values() for option in rule.options} - {"seed"}


@dataclass(frozen=True)
class EditOutcome:
    """Alternatives with their scorecards (or why there is none), and the scorecard before."""

    answers: list[Answer]
    before: Judged | None
    after: list[Judged | None]
    notes: list[str]


def read_upload(midi: str) -> FileCells:
    """A base64 MIDI file. Raises Refused."""
    try:
        return FileCells.of(read_midi(base64.b64decode(midi, validate=True), EDITED))
    except binascii.Error as error:
        raise Refused(f"midi is not base64: {error}", "midi") from error
    except UnreadableScore as error:
        raise Refused(str(error), "midi") from error


def edit(
    engine: Engine, request: EditRequest, file: FileCells, seed: int, cancelling: Cancelling
) -> EditOutcome:
    """Carry out a request on a file. Raises Refused, Crowded, ContractBroken (a bug of ours),
    InterruptedError (cancelled)."""
    deadline = time.monotonic() + DEADLINE_S
    bars = (request.bars[0] - 1, request.bars[1]) if request.bars else None
    tracks = tuple(k - 1 for k in request.tracks) if request.tracks is not None else None
    try:
        if request.operation in RULES:
            rule = Rule(
                **{name: getattr(request, name) for name in request.model_fields_set & RULE_FIELDS}, seed=seed
            )
            answers = [apply_rule(file, request.operation, rule, bars, tracks)]
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
                request.guidance,
                request.temperature,
                request.top_p,
                seed,
            )
            _bounded(wanted, file, request.n)
            answers = edit_file(
                engine.tokenizer,
                engine.bundle.judges,
                lambda requests: _fill(engine, requests, deadline, cancelling),
                file,
                wanted,
                request.n,
            )
    except ContractBroken:
        raise
    except Busy as error:
        raise Crowded(str(error)) from error
    except TimeoutError as error:
        raise Refused(
            f"not written within {DEADLINE_S:.0f} s: name fewer bars or tracks, or ask for fewer alternatives"
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


def _fill(
    engine: Engine, requests: Sequence[FillRequest], deadline: float, cancelling: Cancelling
) -> list[Filled]:
    tickets = []
    try:
        for request in requests:
            tickets.append(
                engine.batcher.submit(Region(engine.tokenizer, request), max(deadline - time.monotonic(), 0))
            )
        cancelling.watch(tickets)
        return [ticket.result() for ticket in tickets]
    finally:
        for ticket in tickets:
            ticket.cancel()


def stored_score(log: EventLog, answer_id: str) -> str:
    """The score of an earlier answer, base64. Raises Refused where the log has none of that id."""
    row = log.answer(answer_id)
    if row is None or "midi" not in row.body:
        raise Refused(
            f"no answer {answer_id!r} with a score is in the log: send the score itself as midi", "parent"
        )
    return str(row.body["midi"])


def without_text(file: FileCells) -> str:
    """The score as base64 MIDI for the log: no names, lyrics or markers."""
    score = file.score.copy()
    score.markers.clear()
    for track in score.tracks:
        track.name = ""
        track.lyrics.clear()
    return base64.b64encode(to_midi(score)).decode()


def edit_answer(
    request: EditRequest, request_id: str, model: str, seed: int, done: EditOutcome
) -> EditAnswer:
    """The outcome as JSON."""
    alternatives = [
        Alternative(
            id=f"{request_id}-{k + 1}",
            midi=base64.b64encode(to_midi(answer.file.score)).decode(),
            seed=answer.seed,
            bars=answer.file.shape[0],
            notes=answer.file.score.note_num(),
            changes=[CellChange(**change) for change in answer.changes],
            contract=ContractAnswer(
                outside_before=answer.contract.before,
                outside_after=answer.contract.after,
                equal=answer.contract.kept,
                cells_kept=answer.contract.cells_kept,
                whole_score=answer.contract.whole,
            ),
            scorecard=Scorecard(**card.scorecard) if card else None,
            scorecard_note=note,
            warnings=answer.warnings,
        )
        for k, (answer, card, note) in enumerate(zip(done.answers, done.after, done.notes, strict=True))
    ]
    before = Scorecard(**done.before.scorecard) if done.before else None
    return EditAnswer(
        request_id=request_id,
        model=model,
        seed=seed,
        parent=request.parent,
        operation=request.operation,
        scorecard_before=before,
        alternatives=alternatives,
    )

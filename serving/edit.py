"""/v1/edit: change a part of a score, and prove that nothing else changed."""

import base64
import hashlib
import logging
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator

from models.edit.by_rule import RULES
from models.edit.edit import NAMES, Answer, unknown_option
from models.fill.request import ContractBroken
from monitoring import metrics
from music.analysis.chords import lead_sheet
from music.reading.files import Reading
from music.reading.midi_events import parse, to_bytes, without_text
from music.score.file_cells import FileCells
from music.score.form import bar_table
from music.writing.files import chords_after
from serving.desk import Desk
from serving.editor import EDITED, EditOutcome, carry_out
from serving.errors import Gone, Refused
from serving.in_flight import current
from serving.schemas import (
    CHORDS_ASKED,
    CHORDS_NAMED,
    MAX_BARS,
    MAX_CELLS,
    MAX_TAKES,
    Chords,
    ControlValues,
    LockValues,
    Scorecard,
    Strict,
    Word,
)
from serving.scores import FORMAT, Format, HandedOut, ScoreFile, ScoreSent, check_engraved, score_file

MOST_NOTES, MOST_WORK = 20_000, 1_000_000  # of a file whose chords are named: notes, and notes times bars


class KeptNote(Strict):
    """A note by its track and its number in it, by onset and then pitch; both count from 1."""

    track: int = Field(1, ge=1)
    note: int = Field(ge=1)


class EditRequest(ScoreSent):
    """A score, a region of it, one operation with its options. Options that the operation does not take are
    errors."""

    parent: Annotated[str, StringConstraints(max_length=80)] = Field(
        "", description="id of an earlier answer to start from, instead of a score"
    )
    format: Format = Field("midi", description=FORMAT)
    operation: Literal[NAMES] = Field(description="see docs/editing.md")  # type: ignore[valid-type]
    bars: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = Field(
        None, description="first and last bar of the region, counted from 1; left out: all"
    )
    tracks: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, max_length=256, description="tracks of the region, counted from 1; left out: all"
    )
    n: int = Field(1, ge=1, le=MAX_TAKES, description="alternatives")
    style: Word = ""
    rhythm: Word = ""
    key: Word = ""
    metre: Word = ""
    controls: ControlValues = Field(default_factory=lambda: ControlValues.model_validate({}))
    locks: LockValues = Field(default_factory=lambda: LockValues.model_validate({}))
    chords: Chords = Field("", description=CHORDS_ASKED)
    keep: list[KeptNote] = Field(
        default_factory=list, max_length=1000, description="notes inside the region that stay"
    )
    strength: float = Field(
        0.5,
        ge=0,
        le=1,
        description="vary, restyle: share of the region's cells that may change; quantise: how far",
    )
    length: int = Field(4, ge=1, le=MAX_BARS, description="continue: bars to add")
    before: bool = Field(False, description="continue: before the first bar instead of after the last")
    melody: int | None = Field(
        None, ge=1, description="harmonise, reharmonise: the track that stays; left out: the highest"
    )
    instruments: list[Annotated[Word | int, Field(union_mode="left_to_right")]] = Field(
        default_factory=list, max_length=8
    )
    semitones: int | None = Field(None, ge=-127, le=127)
    to_key: Word = ""
    steps: int | None = Field(None, ge=-70, le=70)
    grid: Word = Field("1/16", description="quantise: note value, T for triplets")
    amount: float = Field(
        2 / 3, ge=0.5, le=0.8, description="swing: share of the beat before the second quaver"
    )
    timing_ms: float = Field(12.0, ge=0, le=200)
    loudness: float = Field(6.0, ge=0, le=40)
    qpm: float | None = Field(None, ge=10, le=500)
    factor: float | None = Field(None, ge=0.1, le=10)
    axis: int | None = Field(None, ge=0, le=127)
    pitch: int = Field(60, ge=1, le=127)
    fit: bool = Field(
        False, description="metre: one bar for one bar, instead of new barlines over the same notes"
    )
    guidance: float = Field(1.0, ge=0, le=5)
    seed: int | None = Field(None, ge=0, le=2**31 - 1 - 1000 * MAX_TAKES)
    temperature: float | None = Field(
        None, ge=0.05, le=3, description="left out: 1, or 0.6 for harmonise and reharmonise"
    )
    top_p: float = Field(0.98, gt=0, le=1)

    def cells(self) -> int:
        """Of the region as far as the request says it: where it names no bars or tracks, the most there
        could be."""
        if self.operation in RULES:
            return 0
        tracks = len(self.tracks) if self.tracks else 1
        bars = self.length if self.operation == "continue" else MAX_CELLS // tracks
        if self.bars is not None and self.operation != "continue":
            bars = self.bars[1] - self.bars[0] + 1
        return min(bars * tracks, MAX_CELLS) * self.n

    @model_validator(mode="after")
    def _one_score_and_its_own_options(self) -> "EditRequest":
        if bool(self.sent()) == bool(self.parent):
            raise ValueError(
                "give a score (midi, or score in any format), or the id of an earlier answer as parent: one "
                "of the two"
            )
        if self.bars is not None and self.bars[0] > self.bars[1]:
            raise ValueError(f"bars {self.bars[0]} to {self.bars[1]}: the first lies after the last")
        common = {"midi", "score", "parent", "format", "operation", "bars", "tracks", "n"}
        problem = unknown_option(
            self.operation,
            [name for name in type(self).model_fields if name in self.model_fields_set - common],
        )
        if problem:
            raise ValueError(problem)
        return self


class CellChange(BaseModel):
    """What changed in one cell; bar and track count from 1."""

    track: int
    bar: int
    added: int
    removed: int
    moved: int = Field(description="notes of a pitch that was there, with another onset or length")


class ContractAnswer(BaseModel):
    """The edit contract: sha256 of every note outside the region, before and after."""

    outside_before: str
    outside_after: str
    equal: bool
    cells_kept: int
    whole_score: bool = Field(description="the operation is of the whole score: there is no outside")


class Alternative(HandedOut):
    bars: int
    notes: int
    chords: str = Field(description=CHORDS_NAMED)
    changes: list[CellChange]
    contract: ContractAnswer
    scorecard: Scorecard | None = Field(
        description=(
            "of the bars around the region, after the edit; null with `scorecard_note` where the model "
            "cannot read them"
        )
    )
    scorecard_note: str = ""
    warnings: list[str]


class EditAnswer(BaseModel):
    request_id: str
    model: str
    seed: int
    parent: str
    operation: str
    scorecard_before: Scorecard | None
    alternatives: list[Alternative]

    def files(self) -> list[Alternative]:
        return self.alternatives


def stored_score(desk: Desk, answer_id: str) -> ScoreSent:
    """The score of an earlier answer. Raises Refused where the log has none of that id."""
    row = desk.answer_of(answer_id)
    if row is not None and "digest" in row.body:
        raise Refused(
            f"answer {answer_id!r} was made of music that you sent, which is not kept: send the file itself "
            f"(of a key that was made with --keep-music it is kept)",
            "parent",
        )
    if row is None or "midi" not in row.body:
        raise Refused(
            f"no answer {answer_id!r} with a score is in the log: send the score itself as midi", "parent"
        )
    return ScoreSent(midi=str(row.body["midi"]))


def as_kept(midi: bytes, sent: bool) -> dict[str, str]:
    """A file for the log: without names, words and markers as base64; of music that was sent (and may not be
    kept) only its sha256."""
    if sent and not current().keeps:
        return {"digest": hashlib.sha256(midi).hexdigest()}
    return {"midi": base64.b64encode(to_bytes(without_text(parse(midi)))).decode()}


def named_chords(file: FileCells) -> str:
    """The lead sheet of an answer; "" of a file too large for it to be worked out beside other requests."""
    beats = file.score.note_num() * max(file.shape[0], 1)
    return lead_sheet(file.score) if beats <= MOST_WORK and file.score.note_num() <= MOST_NOTES else ""


def notation(request: EditRequest, reading: Reading, answer: Answer) -> ScoreFile | None:
    """An alternative in the format asked for, with the chord symbols that came, named anew in its region."""
    if request.format == "midi":
        return None
    changed = answer.bars_changed(len(bar_table(reading.score)))
    chords = chords_after(answer.file.score, reading.chords, changed, request.key)
    title = reading.labels.get("title", "")
    return score_file(answer.file.score, request.format, request.key, chords, title)


def edit_answer(
    request: EditRequest, reading: Reading, request_id: str, model: str, seed: int, done: EditOutcome
) -> EditAnswer:
    """The outcome as JSON."""
    alternatives = [
        Alternative(
            id=f"{request_id}-{k + 1}",
            midi=base64.b64encode(answer.midi).decode(),
            score=notation(request, reading, answer),
            seed=answer.seed,
            bars=answer.file.shape[0],
            notes=answer.file.score.note_num(),
            chords=named_chords(answer.file),
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


logger = logging.getLogger("ostinato")


def edit(desk: Desk, request: EditRequest) -> EditAnswer:
    """Change a part of a score, and prove that nothing else changed."""
    seed, model = desk.seed_of(request.seed, 1000 * MAX_TAKES), desk.model
    body = {**request.model_dump(exclude={"midi", "score"}, exclude_unset=True), **request.told()}
    try:
        with desk.exchange("edit", body, seed) as exchange:
            given = stored_score(desk, request.parent) if request.parent else request
            reading = given.reading(EDITED)
            check_engraved(reading.score, request.format)
            done = carry_out(desk.engine, request, reading, seed)
            answer = edit_answer(request, reading, exchange.request_id, model, seed, done)
            for each, card, answered in zip(answer.alternatives, done.after, done.answers, strict=True):
                told = {"parent": request.parent, "operation": request.operation}
                row = {
                    **each.model_dump(exclude={"midi", "score"}),
                    **told,
                    **as_kept(answered.midi, not request.parent),
                }
                exchange.answer(
                    row,
                    side="output" if card else "",
                    card=card,
                    seed=each.seed,
                    answer_id=each.id,
                    noted=False,
                )
    except ContractBroken:  # must never happen: counted, logged, answered with a 500
        metrics.EDITS.labels(request.operation, "broken", model).inc()
        logger.exception("the edit contract was broken by request %s", exchange.request_id)
        raise
    except Gone:
        metrics.EDITS.labels(request.operation, "cancelled", model).inc()
        raise
    metrics.EDITS.labels(request.operation, "kept", model).inc(len(done.answers))
    return answer

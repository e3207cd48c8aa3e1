"""Scores as they come and go: any format that is read comes in, any that is written goes out."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, Field, StringConstraints
from starlette.responses import Response
from symusic import Score

from music.reading.files import Reading, detected, only_piece, read_format
from music.score.errors import UnreadableScore
from music.score.form import Limits, bar_table
from music.writing.files import written
from serving.errors import Refused
from serving.schemas import MAX_SCORE_BASE64, Strict

TEXT = ("musicxml", "abc", "kern")  # formats whose files are text
SERVED = {  # media types of files of scores; any other `Accept` is answered in JSON
    "audio/midi": "midi",
    "audio/x-midi": "midi",
    "application/vnd.recordare.musicxml+xml": "musicxml",
    "text/vnd.abc": "abc",
}
MOST_ENGRAVED = 20_000  # notes of a score that is written as notation beside other requests: seconds
MOST_ENGRAVED_CELLS = 2_000  # bars times tracks: some 4 ms each

Format = Literal["midi", "musicxml", "abc"]
FORMAT = "of the scores that come back: `midi`, or also as `score` in notation (docs/files.md)"


class ScoreFile(Strict):
    """A score in a format of its own."""

    data: Annotated[str, StringConstraints(min_length=1, max_length=MAX_SCORE_BASE64)] = Field(
        description="the file in base64; MusicXML, ABC and kern may stand here as the text they are"
    )
    format: Literal["", "midi", "musicxml", "mxl", "abc", "kern"] = Field(
        "", description="left out: told by how the file begins"
    )


class ScoreSent(Strict):
    """A request that brings a score."""

    midi: Annotated[str, StringConstraints(max_length=MAX_SCORE_BASE64)] = Field(
        "", description="standard MIDI file, base64: the same as `score` in format midi"
    )
    score: ScoreFile | None = Field(
        default=None, description="a score in any format that is read, instead of midi"
    )

    def sent(self) -> str:
        """The field in which the score came, "" where none did. Raises ValueError for two."""
        if self.midi and self.score:
            raise ValueError("give one score: as midi, or as score in any format")
        return "midi" if self.midi else "score" if self.score else ""

    def told(self) -> dict[str, Any]:
        """For the log: how large the score was, and its format; not the music."""
        if self.score:
            return {"score_bytes": len(self.score.data), "score_format": self.score.format}
        return {"midi_bytes": len(self.midi) * 3 // 4}

    def reading(self, limits: Limits) -> Reading:
        """The one piece that came. Raises Refused."""
        file = self.score or ScoreFile(data=self.midi, format="midi")
        try:
            return only_piece(_read(file, limits))
        except UnreadableScore as error:
            raise Refused(str(error), self.sent()) from error
        except ValueError as error:  # binascii.Error, or letters that are not ASCII
            raise Refused(f"{self.sent()} is not base64: {error}", self.sent()) from error


class HandedOut(BaseModel):
    """A score that goes out."""

    id: str = Field(description="to start an edit from, as parent")
    midi: str = Field(description="standard MIDI file, base64")
    score: ScoreFile | None = Field(
        default=None, description="in the format asked for, where that is notation; text"
    )
    seed: int


class Answered(Protocol):
    """The answer of a request that hands scores out."""

    model: str

    def files(self) -> Sequence[HandedOut]: ...


R = TypeVar("R", bound=BaseModel)
A = TypeVar("A", bound=Answered)


def _read(file: ScoreFile, limits: Limits) -> list[Reading | tuple[str, str]]:
    data = _bytes(file)
    found = file.format or detected(data)
    if not found:
        raise UnreadableScore(
            "the score is in none of the formats that are read: MIDI, MusicXML, mxl, ABC (a tune begins with "
            "an X: line), kern; if it is one of them, say which as format"
        )
    return read_format(data, found, limits)


def _bytes(file: ScoreFile) -> bytes:
    """Text that is no base64 is the file itself, where its format is a text: base64 knows none of the signs
    that every such file has."""
    try:
        return base64.b64decode(file.data, validate=True)
    except ValueError:
        text = file.data.encode()
        if (file.format or detected(text)) in TEXT:
            return text
        raise


def check_engraved(score: Score, to: str) -> None:
    """Raises Refused for a score too large to be written as notation; asked before it is worked at."""
    if to == "midi":
        return
    if score.note_num() > MOST_ENGRAVED:
        raise Refused(
            f"the score has {score.note_num()} notes; at most {MOST_ENGRAVED} are written as notation here: "
            f"ask for midi, and use `ostinato convert`",
            "format",
        )
    cells = len(bar_table(score)) * max(len(score.tracks), 1)
    if cells > MOST_ENGRAVED_CELLS:
        raise Refused(
            f"the score has {cells} bars times tracks; at most {MOST_ENGRAVED_CELLS} are written as notation "
            f"here: ask for midi, and use `ostinato convert`",
            "format",
        )


def score_file(
    score: Score, to: str, key: str = "", chords: Sequence[tuple[int, str]] = (), title: str = ""
) -> ScoreFile | None:
    """A score in notation; None in MIDI, which has a field of its own. Raises Refused for one too large."""
    if to == "midi":
        return None
    check_engraved(score, to)
    try:
        return ScoreFile(data=written(score, to, key, chords, title).decode(), format=to)  # type: ignore[arg-type]
    except ValueError as error:
        raise Refused(f"cannot be written as {to}: {error}", "format") from error


def accepted(header: str) -> str:
    """The media type of SERVED that an `Accept` header asks for first; "" where it asks for none, or for JSON
    before it."""
    for part in header.lower().split(","):
        media = part.split(";")[0].strip()
        if media in SERVED or media == "application/json":
            return media if media in SERVED else ""
    return ""


def as_accepted(headers: Mapping[str, str], request: R, answer: Callable[[R], A]) -> A:
    """The answer in JSON, or, where `Accept` names a format of scores, the one file alone. Raises Refused for
    several at once."""
    media = accepted(headers.get("accept", ""))
    if not media:
        return answer(request)
    if getattr(request, "n", 1) > 1:
        raise Refused(f"a file of {media} holds one score: ask for n = 1, or accept JSON", "n")
    done = answer(request.model_copy(update={"format": SERVED[media]}))
    first = done.files()[0]
    told = {"ostinato-id": first.id, "ostinato-seed": str(first.seed), "ostinato-model": done.model}
    data = first.score.data.encode() if first.score else base64.b64decode(first.midi)
    return Response(data, media_type=media, headers=told)  # type: ignore[return-value]  # BentoML lets it pass

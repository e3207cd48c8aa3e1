"""`ostinato convert`: a score from one format into another, no champion needed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.running.files import StageError, plain_errors, write_bytes


def check_suffix(path: Path) -> str:
    """The format of a file to write. Raises StageError."""
    from music.writing.files import format_of

    try:
        return format_of(path.name)
    except ValueError as error:
        raise StageError(str(error)) from error


def write_as(
    path: Path,
    midi: bytes,
    score: Any,
    key: str = "",
    chords: Callable[[], Sequence[tuple[int, str]]] = tuple,
) -> None:
    """The MIDI file as it is, or its score in the format of the suffix, with chords above the notes. Raises
    StageError."""
    from music.writing.files import written

    to = check_suffix(path)
    if to == "midi":
        return write_bytes(path, midi)
    try:
        write_bytes(path, written(score, to, key, chords(), path.stem))
    except ValueError as error:
        raise StageError(f"{path}: {error}") from error


def convert(
    file: Annotated[Path, typer.Argument(help="MIDI, MusicXML, kern or ABC of one tune")],
    out: Annotated[Path, typer.Argument(help="file to write: .mid, .musicxml or .abc")],
    chords: Annotated[
        bool, typer.Option(help="name chords above the notes where the file names none (notation only)")
    ] = False,
    key: Annotated[str, typer.Option(help="write it in this key, e.g. 'D dorian'; left out: its own")] = "",
    force: Annotated[bool, typer.Option(help="write over an existing file")] = False,
) -> None:
    """Write a score in another format. Nothing is played differently: see docs/files.md for what each format
    can hold."""
    from music.writing.files import chords_heard, written
    from pipelines.commands.edit import read_piece

    with plain_errors():
        to = check_suffix(out)
        if out.exists() and not force:
            raise StageError(f"{out} exists: choose another name, or write over it with --force")
        reading = read_piece(file)
        try:
            named = reading.chords or (chords_heard(reading.score, key) if chords else [])
            title = reading.labels.get("title", "") or file.stem
            write_bytes(out, written(reading.score, to, key, named, title))
        except ValueError as error:
            raise StageError(f"{file}: {error}") from error
        typer.echo(f"{out}: {reading.score.note_num()} notes in {len(reading.score.tracks)} tracks, {to}")

"""`ostinato history`: the edits that led to an answer."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.feedback import opened
from pipelines.running.files import StageError, plain_errors, write_bytes


def history(
    answer: Annotated[str, typer.Argument(help="id of an answer, as compose and edit give it")],
    log: Annotated[
        Path | None, typer.Option(help="folder of the log; default: OSTINATO_LOG or <home>/log")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="write the score of the answer to this MIDI file")] = None,
) -> None:
    """The chain of edits that led to an answer, from the log; any of them can be edited again as parent,
    which is undo."""
    import base64

    with plain_errors():
        events = opened(log, "serve and ask for something")
        chain = events.history(answer)
        if not chain:
            raise StageError(f"no answer {answer!r} in the log of {events.folder}")
        for row in chain:
            typer.echo(
                f"{row.time}  {row.id}  {row.body.get('operation', row.endpoint):<12} seed {row.seed}  "
                f"{row.body.get('notes', '?')} notes  parent {row.body.get('parent') or '-'}"
            )
        if save:
            if "midi" not in chain[-1].body:
                raise StageError(
                    f"the music of {answer} is not kept: it was made of a file that its key sent"
                )
            write_bytes(save, base64.b64decode(chain[-1].body["midi"]))
            typer.echo(f"wrote {save}")

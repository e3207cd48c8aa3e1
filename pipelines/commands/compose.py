"""`ostinato compose`: the request of POST /v1/compose with the champion, without a server, or to one."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands import remote
from pipelines.commands.convert import check_suffix, write_as
from pipelines.commands.remote import Url
from pipelines.running.files import StageError, plain_errors


def compose(
    out: Annotated[
        Path, typer.Argument(help=".mid, .musicxml or .abc file; with --n, -1, -2, ... go before the suffix")
    ],
    style: Annotated[str, typer.Option(help="a style of the training data, e.g. irish")] = "",
    rhythm: Annotated[str, typer.Option(help="a dance, e.g. jig")] = "",
    key: Annotated[str, typer.Option(help="e.g. 'D major'")] = "",
    metre: Annotated[str, typer.Option(help="e.g. 6/8")] = "",
    bars: Annotated[int, typer.Option(help="how many, 1 to 256", min=1, max=256)] = 16,
    form: Annotated[str, typer.Option(help="sections, e.g. AABB or 'A:8 B:8 A:4'; free: none")] = "",
    chords: Annotated[str, typer.Option(help="e.g. 'Dm7 | G7 | C F | C'")] = "",
    instrument: Annotated[list[str] | None, typer.Option(help="e.g. fiddle; may be given again")] = None,
    tempo: Annotated[float | None, typer.Option(help="quarters a minute")] = None,
    guidance: Annotated[float, typer.Option(help="above 1 what is asked is pressed harder")] = 1.0,
    temperature: Annotated[float, typer.Option(help="above 1 bolder, below 1 safer")] = 0.9,
    seed: Annotated[int, typer.Option(help="the same seed gives the same notes")] = 0,
    n: Annotated[int, typer.Option(help="takes", min=1, max=8)] = 1,
    best_of: Annotated[int, typer.Option(help="drafts that each take is the best of", min=1, max=8)] = 1,
    revise: Annotated[
        bool, typer.Option(help="chorales: lower voices once more, on chords that several takes agree on")
    ] = True,
    dynamics: Annotated[bool, typer.Option(help="beats and phrases heard in the loudness")] = True,
    force: Annotated[bool, typer.Option(help="write over an existing file")] = False,
    url: Url = "",
) -> None:
    """Write music with the champion: the same answer as POST /v1/compose with the same seed."""
    from pipelines.release.versions import champion_bundle

    with plain_errors():
        check_suffix(out)
        targets = [out] if n == 1 else [out.with_name(f"{out.stem}-{k + 1}{out.suffix}") for k in range(n)]
        there = [str(target) for target in targets if target.exists()]
        if there and not force:
            raise StageError(f"{', '.join(there)} exists: choose another name, or write over it with --force")
        told: dict[str, Any] = {"style": style, "rhythm": rhythm, "key": key, "metre": metre, "bars": bars}
        told |= {"form": form, "chords": chords, "instruments": list(instrument or ()), "tempo": tempo}
        told |= {"guidance": guidance, "temperature": temperature, "seed": seed, "n": n, "best_of": best_of}
        if url:
            if not revise:
                raise StageError("--no-revise is not offered by a service: leave it out, or leave out --url")
            return remote.compose(url, targets, {**told, "dynamics": "plain" if dynamics else "off"})
        bundle = champion_bundle()[1]
        from models.edit.chorales import drafted, revised
        from models.fill.compose import Composition
        from models.fill.compose import compose as written
        from models.fill.fill import fill
        from music.analysis.chords import lead_sheet
        from music.score.form import to_midi
        from music.writing.dynamics import with_dynamics
        from music.writing.files import chords_heard

        asked = Composition(**told)
        try:
            decoder, t = bundle.decoder(8), bundle.tokenizer
            wanted = drafted(t, asked) if revise else asked
            takes = written(decoder, t, wanted, worth=bundle.rewards.of_answer, forms=bundle.forms)
            if revise:
                takes = revised(t, bundle.judges, lambda requests: fill(decoder, t, requests), asked, takes)
        except ValueError as error:
            raise StageError(str(error)) from error
        for take, target in zip(takes, targets, strict=True):
            score = with_dynamics(take.score, t.velocity) if dynamics else take.score
            write_as(target, to_midi(score), score, key, partial(chords_heard, score, key))
            typer.echo(
                f"{lead_sheet(take.score, key)}\n{target}: {take.score.note_num()} notes in {bars} bars, "
                f"seed {take.seed}" + (f", form {take.form}" if take.form else "")
            )

"""`ostinato rate`: two takes of one prompt in a blind order, which is better, and who has won so far."""

import random
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.commands.feedback import log_folder
from pipelines.running.files import StageError, plain_errors, write_bytes

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.fill.compose import Take
    from monitoring.log import EventLog

CHOICES = {"1": 0, "2": 1}
PLACES = ("first", "second")


def rate(
    against: Annotated[
        str,
        typer.Option(
            help=(
                "another version (its number, `previous` or `challenger`) to set against the "
                "champion; default: the champion against itself, for `align` to learn from"
            )
        ),
    ] = "",
    pairs: Annotated[int, typer.Option(help="pairs to offer")] = 10,
    user: Annotated[
        str, typer.Option(help="an opaque id for what you say; nothing that names a person")
    ] = "local",
    style: Annotated[str, typer.Option(help="a style of the training data; default: each pair another")] = "",
    bars: Annotated[int, typer.Option(help="bars of each take")] = 8,
    folder: Annotated[
        Path, typer.Option(help="where the two takes are written, as MIDI and piano roll")
    ] = Path("rate"),
    seed: Annotated[int | None, typer.Option(help="of the prompts")] = None,
    report: Annotated[bool, typer.Option(help="only say who has won so far")] = False,
    log: Annotated[
        Path | None, typer.Option(help="folder of the log; default: OSTINATO_LOG or <home>/log")
    ] = None,
) -> None:
    """Compare takes by ear: 1 or 2 is better, = alike, s skip, q quit. What you say goes into the log, where
    `ostinato improve` finds it."""
    from monitoring.log import EventLog
    from pipelines.release import versions as known

    with plain_errors():
        if not user.strip() or user.split() != [user] or "@" in user:
            raise StageError("--user is one opaque id without spaces, not an address")
        events = EventLog(log_folder(log))
        if not report:
            bundles = [known.champion_bundle()[1]]
            bundles.append(known.bundle_of(known.named(against)) if against else bundles[0])
            _offer(
                events,
                bundles,
                pairs,
                user,
                style,
                bars,
                folder,
                random.SystemRandom().randrange(2**30) if seed is None else seed,
            )
        _tell_wins(events)


def _offer(
    events: "EventLog",
    bundles: "list[Bundle]",
    pairs: int,
    user: str,
    style: str,
    bars: int,
    folder: Path,
    seed: int,
) -> None:
    decoders = [bundle.decoder(1) for bundle in bundles]
    for n in range(pairs):
        asked = _prompt(bundles[0], style, bars, seed + n)
        takes = _takes(bundles, decoders, asked, 2 * (seed + n))
        random.SystemRandom().shuffle(takes)
        names = _log_takes(events, takes, asked, seed + n)
        _write_takes(folder, [take for _, take in takes])
        typer.echo(
            f"\npair {n + 1} of {pairs}: {asked['style'] or 'any style'} {asked['rhythm']} in "
            f"{asked['key']}, {asked['bars']} bars -> {folder}/first.mid, {folder}/second.mid (and .png)"
        )
        said = typer.prompt("which is better? 1, 2, =, s(kip), q(uit)", default="s").strip().lower()
        while said not in {*CHOICES, "=", "s", "q"}:
            said = typer.prompt("1, 2, =, s or q").strip().lower()
        if said == "q":
            break
        if said != "s":
            _log_choice(events, user, names, said)


def _prompt(bundle: "Bundle", style: str, bars: int, seed: int) -> dict[str, Any]:
    """Style, dance, metre and key as a real piece of the catalogue has them."""
    items = [item for item in bundle.catalogue.items if not style or item.style == style]
    if not items:
        raise StageError(
            f"no style {style!r} in the catalogue; there are "
            f"{', '.join(sorted({item.style for item in bundle.catalogue.items}))}"
        )
    item = random.Random(seed).choice(items)
    return {
        "style": item.style,
        "rhythm": item.rhythm if item.rhythm in bundle.tokenizer.rhythms else "",
        "key": item.key,
        "metre": item.metre,
        "bars": bars,
    }


def _takes(
    bundles: "list[Bundle]", decoders: list[Any], asked: dict[str, Any], seed: int
) -> "list[tuple[Bundle, Take]]":
    from models.fill.compose import Composition, compose

    both = []
    for k, (bundle, decoder) in enumerate(zip(bundles, decoders, strict=True)):
        own = Composition(**asked, seed=seed + k)
        try:
            both.append((bundle, compose(decoder, bundle.tokenizer, own, forms=bundle.forms)[0]))
        except ValueError as error:
            raise StageError(f"model {bundle.tag} cannot be asked for this: {error}") from error
    return both


def _log_takes(
    events: "EventLog", takes: "list[tuple[Bundle, Take]]", asked: dict[str, Any], seed: int
) -> list[str]:
    from base64 import b64encode

    from monitoring.rows import Row
    from music.analysis.descriptors import describe_opening

    request_id = uuid.uuid4().hex
    names = [f"{request_id}-{n + 1}" for n in range(len(takes))]
    events.append(
        Row("request", "pair", request_id, takes[0][0].tag, seed, body=asked),
        *(
            Row(
                "answer",
                "pair",
                request_id,
                bundle.tag,
                take.seed,
                "output",
                None,
                None,
                describe_opening(take.score),
                {"id": name, "midi": b64encode(take.midi).decode(), "shown": place},
                id=name,
            )
            for name, place, (bundle, take) in zip(names, PLACES, takes, strict=True)
        ),
    )
    return names


def _write_takes(folder: Path, takes: "list[Take]") -> None:
    from music.writing.pianoroll import save_piano_roll

    for place, take in zip(PLACES, takes, strict=True):
        write_bytes(folder / f"{place}.mid", take.midi)
        save_piano_roll(take.score, folder / f"{place}.png", place)


def _log_choice(events: "EventLog", user: str, names: list[str], said: str) -> None:
    from monitoring.rows import Row

    chosen = CHOICES.get(said, 0)
    body = {
        "user": user,
        "item": names[chosen],
        "over": names[1 - chosen],
        "event": "tie" if said == "=" else "prefer",
    }
    events.append(Row("feedback", "feedback", names[0].rpartition("-")[0], "", body=body))


def _tell_wins(events: "EventLog") -> None:
    from monitoring.wins import duels

    found = duels(events.rows())
    if not found:
        typer.echo("no two models have been compared yet: ostinato rate --against previous")
    for duel in found:
        low, high = duel.interval
        typer.echo(
            f"{duel.model} against {duel.rival}: {duel.won} won, {duel.lost} lost, {duel.tied} "
            f"alike: {duel.rate:.0%} (95 %: {low:.0%} to {high:.0%})"
        )

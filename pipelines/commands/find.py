"""Find in the catalogue: `ostinato similar` and `ostinato recommend`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands import remote
from pipelines.commands.catalogue import open_finder, sync
from pipelines.commands.remote import Url, sent
from pipelines.running.files import StageError, plain_errors


def similar(
    query: Annotated[
        str, typer.Argument(help="a file (MIDI, MusicXML, kern, ABC), or the id of an item or of an answer")
    ],
    bars: Annotated[str, typer.Option(help="bars of the passage to compare, e.g. 5-12; left out: all")] = "",
    style: Annotated[list[str] | None, typer.Option(help="only these styles")] = None,
    k: Annotated[int, typer.Option(help="how many")] = 10,
    url: Url = "",
) -> None:
    """Pieces of the catalogue that are like a piece, and why."""
    from models.find.answers import Unanswerable
    from models.find.catalogue import Filters
    from pipelines.commands.edit import read_piece, span
    from pipelines.release.versions import champion_bundle

    with plain_errors():
        path = Path(query)
        if url:
            told: dict[str, Any] = {"k": k, **({"score": sent(path)} if path.is_file() else {"id": query})}
            region = span(bars)
            told |= {"bars": (region[0] + 1, region[1])} if region else {}
            told |= {"filters": {"labels": {"style": style}}} if style else {}
            return remote.similar(url, told)
        bundle = champion_bundle()[1]
        sync(bundle)
        finder = open_finder(bundle)
        try:
            score = read_piece(path).score if path.is_file() else None
            found, searched = finder.similar(
                score=score,
                item="" if score else query,
                bars=span(bars),
                k=k,
                filters=Filters({"style": style} if style else {}),
            )
        except Unanswerable as error:
            raise StageError(str(error)) from error
        for each in found:
            item, match = finder.catalogue.items[each.hit.row], each.hit.matches[0]
            typer.echo(
                f"{each.hit.likeness:.3f}  {item.id}  {item.style} {item.rhythm} {item.metre} {item.key}"
            )
            typer.echo(
                f"       bars {match.query_bars[0] + 1}-{match.query_bars[1]} are like its bars "
                f"{match.bars[0] + 1}-{match.bars[1]}; {each.why.text}"
            )
        typer.echo(f"of {searched} items")


def recommend(
    user: Annotated[str, typer.Option(help="an id as it was sent with feedback")] = "",
    like: Annotated[
        list[str] | None, typer.Option(help="an item or answer that is liked; may be given again")
    ] = None,
    dislike: Annotated[list[str] | None, typer.Option(help="one that is not")] = None,
    style: Annotated[list[str] | None, typer.Option(help="only these styles")] = None,
    k: Annotated[int, typer.Option(help="how many")] = 10,
    diversity: Annotated[
        float, typer.Option(help="0: the best, however alike; 1: as unlike each other as can be")
    ] = 0.2,
    exploration: Annotated[
        float, typer.Option(help="share of places drawn by chance, half of them of pieces nobody has met")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="of what is drawn by chance")] = 0,
    url: Url = "",
) -> None:
    """Pieces of the catalogue for a taste, and which part of the recommender spoke."""
    from models.find.answers import Unanswerable
    from models.find.catalogue import Filters
    from pipelines.release.versions import champion_bundle

    with plain_errors():
        if url:
            told: dict[str, Any] = {"likes": like or [], "dislikes": dislike or [], "k": k, "seed": seed}
            told |= {"diversity": diversity, "exploration": exploration}
            told |= {"user": user} if user else {}
            told |= {"filters": {"labels": {"style": style}}} if style else {}
            return remote.recommend(url, told)
        bundle = champion_bundle()[1]
        sync(bundle)
        finder = open_finder(bundle)
        try:
            found, taste, warnings = finder.recommend(
                user=user,
                likes=like or (),
                dislikes=dislike or (),
                k=k,
                filters=Filters({"style": style} if style else {}),
                diversity=diversity,
                exploration=exploration,
                repeat=False,
                seed=seed,
            )
        except Unanswerable as error:
            raise StageError(str(error)) from error
        for each in found:
            item = finder.catalogue.items[each.row]
            typer.echo(
                f"{each.score:7.3f}  {item.id}  {item.style} {item.rhythm} {item.metre} {item.key}  "
                f"[{', '.join(f'{name} {share:.0%}' for name, share in each.spoke.items())}]"
            )
            if each.why:
                typer.echo(f"         like {each.like}: {each.why.text}")
        for warning in warnings:
            typer.echo(f"note: {warning}")
        typer.echo(
            f"{len(taste.liked)} liked, {len(taste.disliked)} disliked; the collaborative part learned from "
            f"{bundle.recommender.origin}{' listeners' if bundle.recommender.origin == 'simulated' else ''}"
        )

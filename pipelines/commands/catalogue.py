"""`ostinato catalogue`: your own pieces beside the ones that came with the model. `ostinato similar` and
`ostinato recommend`: the same answers as the service's."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from filelock import FileLock

from music.score.form import to_midi
from pipelines.running.files import StageError, plain_errors, whole_file, write_parquet
from pipelines.running.tracking import home

if TYPE_CHECKING:
    from models.bundle import Bundle

catalogue = typer.Typer(no_args_is_help=True, help=__doc__)
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "path", "licence", "style", "rhythm", "key", "composer")]
    + [("midi", pa.binary())]
)


def folder() -> Path:
    """Where a user's own items are: <home>/catalogue."""
    return home() / "catalogue"


def own_items() -> list[dict[str, Any]]:
    path = folder() / "scores.parquet"
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist() if path.exists() else []
    return rows


def removed() -> list[str]:
    path = folder() / "removed.txt"
    return [line for line in path.read_text().split("\n") if line] if path.exists() else []


def _write_removed(ids: Sequence[str]) -> None:
    with whole_file(folder() / "removed.txt") as temporary:
        temporary.write_text("\n".join(sorted(set(ids))) + "\n")


def sync(bundle: "Bundle") -> int:
    """Vectors of the user's own items by a bundle's encoder, where they are not there yet; returns how many
    items there are."""
    from symusic import Score

    from models.fill.readable import readable
    from models.find.catalogue import Catalogue, Item
    from models.find.embedding import parts_of
    from models.find.words_index import words_of
    from models.tokens.tokenizer import NotRepresentable
    from music.analysis.descriptors import describe, histograms
    from music.score.form import bar_table
    from music.score.keys import estimate_key

    rows = own_items()
    target, stamp = folder() / f"{bundle.tag}.safetensors", folder() / f"{bundle.tag}.json"
    digest = hashlib.sha256(repr(rows).encode()).hexdigest()
    if not rows:
        target.unlink(missing_ok=True)
        return 0
    if target.exists() and stamp.exists() and json.loads(stamp.read_text()) == digest:
        return len(rows)
    items, parts, tokens = [], [], []
    for row in rows:
        score = readable(bundle.tokenizer, Score.from_midi(row["midi"])).score
        try:
            mine, ids = parts_of(bundle.tokenizer, score), bundle.tokenizer.encode_score(score)[0]
        except NotRepresentable as error:  # a champion of other music; the piece stays, for the next one
            typer.echo(f"not offered with this champion  {row['id']}: {error}", err=True)
            continue
        table = bar_table(score)
        key = row["key"] or estimate_key(histograms(score)["pitch_class_histogram"])[0]
        items.append(
            Item(
                row["id"],
                "own",
                row["licence"],
                row["style"],
                row["rhythm"],
                f"{table[0, 2]}/{table[0, 3]}",
                key,
                row["composer"],
                len(table),
                score.note_num(),
                describe(score),
            )
        )
        parts.append(mine)
        tokens.append(ids)
    if not items:
        target.unlink(missing_ok=True)
        return 0
    vectors = bundle.encoder.embed(bundle.reader, [part for mine in parts for part in mine])
    owners = np.repeat(np.arange(len(parts)), [len(mine) for mine in parts])
    found = Catalogue(
        items,
        vectors,
        owners,
        np.array([part.bars for mine in parts for part in mine]),
        tokens,
        [words_of([part.words for part in mine]) for mine in parts],
    )
    with whole_file(target) as temporary:
        found.save(temporary)
    with whole_file(stamp) as temporary:
        temporary.write_text(json.dumps(digest))
    return len(items)


@catalogue.command()
def add(
    scores: Annotated[Path, typer.Argument(help="folder of MIDI, MusicXML, kern or ABC, or one file")],
    licence: Annotated[str, typer.Option(help="licence class of the scores, see params.yaml under prepare")],
    style: Annotated[str, typer.Option(help="style of the pieces")] = "",
    composer: Annotated[str, typer.Option(help="composer of the pieces")] = "",
) -> None:
    """Add pieces; a running service offers them at once."""
    from models.fill.readable import readable
    from models.find.embedding import parts_of
    from models.tokens.tokenizer import NotRepresentable
    from music.reading.files import Reading, read_file
    from music.score.errors import UnreadableScore
    from music.score.form import Limits, normalise
    from pipelines.release.versions import champion_bundle
    from pipelines.running.params import LICENCE_CLASSES

    with plain_errors():
        if licence not in LICENCE_CLASSES:
            raise StageError(f"unknown licence class {licence!r}; known are {', '.join(LICENCE_CLASSES)}")
        if not scores.exists():
            raise StageError(f"{scores} is not there")
        bundle = champion_bundle()[1]
        t = bundle.tokenizer
        new, refused = list[dict[str, Any]](), list[str]()
        top = scores if scores.is_dir() else scores.parent
        for path in sorted(
            p
            for p in (scores.rglob("*") if scores.is_dir() else [scores])
            if p.is_file() and not p.name.startswith(".")
        ):
            name = path.relative_to(top).as_posix()
            try:
                found = read_file(path.read_bytes(), path.name, Limits())
            except UnreadableScore as error:
                refused.append(f"{name}: {error}")
                continue
            for number, reading in enumerate(found):
                if not isinstance(reading, Reading):
                    refused.append(f"{name}: {reading[1]}")
                    continue
                try:
                    score = readable(
                        t,
                        normalise(reading.score, ticks_per_quarter=t.ticks_per_quarter, velocity=t.velocity),
                    ).score
                    if not parts_of(t, score):
                        raise UnreadableScore("too short to compare")
                    t.encode_score(score)
                except (UnreadableScore, NotRepresentable) as error:
                    refused.append(f"{name}: {error}")
                    continue
                midi = to_midi(score)
                labels = {
                    label: str(reading.labels.get(label, "") or "") for label in ("rhythm", "key", "composer")
                }
                new.append(
                    {
                        "id": f"own/{name}" + (f"#{number + 1}" if len(found) > 1 else ""),
                        "path": name,
                        "licence": licence,
                        "style": style,
                        **labels,
                        "composer": composer or labels["composer"],
                        "midi": midi,
                    }
                )
        if not new:
            raise StageError(
                f"no piece could be added; {len(refused)} refused"
                + (f", e.g. {refused[0]}" if refused else "")
            )
        folder().mkdir(parents=True, exist_ok=True)
        with FileLock(folder() / "lock"):
            ids = {row["id"] for row in new}
            write_parquet(
                folder() / "scores.parquet",
                [*(row for row in own_items() if row["id"] not in ids), *new],
                SCHEMA,
            )
            _write_removed([i for i in removed() if i not in ids])
            total = sync(bundle)
        for line in refused[:20]:
            typer.echo(f"refused  {line}", err=True)
        typer.echo(f"{len(new)} pieces added, {len(refused)} refused; {total} of your own in the catalogue")


@catalogue.command()
def remove(
    ids: Annotated[list[str], typer.Argument(help="items, your own or those that came with the model")],
) -> None:
    """Take pieces out; a running service stops offering them at once. `add` or `restore` brings them back."""
    from pipelines.release.versions import champion_bundle

    with plain_errors():
        bundle = champion_bundle()[1]
        known = set(bundle.catalogue.row_of) | {row["id"] for row in own_items()}
        unknown = [i for i in ids if i not in known]
        if unknown:
            raise StageError(f"no item {', '.join(unknown)}: `ostinato catalogue find TEXT` lists ids")
        folder().mkdir(parents=True, exist_ok=True)
        with FileLock(folder() / "lock"):
            _write_removed([*removed(), *ids])
        typer.echo(f"{len(ids)} removed")


@catalogue.command()
def restore(ids: list[str]) -> None:
    """Offer removed pieces again."""
    with plain_errors(), FileLock(folder() / "lock"):
        missing = [i for i in ids if i not in removed()]
        if missing:
            raise StageError(f"{', '.join(missing)} was not removed")
        _write_removed([i for i in removed() if i not in ids])


@catalogue.command()
def find(
    text: Annotated[str, typer.Option(help="part of an id, style, composer or key")] = "",
    most: Annotated[int, typer.Option(help="how many are shown")] = 20,
) -> None:
    """Items whose id, composer or labels hold a text."""
    from pipelines.release.versions import champion_bundle

    with plain_errors():
        bundle = champion_bundle()[1]
        sync(bundle)
        finder = open_finder(bundle)
        hits = [
            item
            for item in finder.catalogue.items
            if text.lower() in " ".join((item.id, item.composer, item.style, item.rhythm, item.key)).lower()
        ]
        for item in hits[:most]:
            typer.echo(
                f"{item.id}  {item.style} {item.rhythm} {item.metre} {item.key}  {item.bars} bars  "
                f"{item.licence}"
            )
        typer.echo(f"{len(hits)} of {len(finder.catalogue)} items")


def open_finder(bundle: "Bundle") -> Any:
    """The search and the recommender of the service, without a server."""
    from models.find.finder import Finder
    from monitoring.log import EventLog
    from pipelines.commands.feedback import log_folder
    from pipelines.running.params import load_params

    return Finder(bundle, EventLog(log_folder()), folder(), load_params().recommend.faiss_past)

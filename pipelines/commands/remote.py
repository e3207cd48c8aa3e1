"""What compose, edit, similar and recommend do with `--url`: a service is asked, not the champion here."""

import base64
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.convert import check_suffix
from pipelines.running.files import StageError, write_bytes

Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="OSTINATO_URL",
        help="ask this service, e.g. https://music.example; its key in OSTINATO_KEY",
    ),
]


def ask(url: str, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The answer of a service, by its client in a process of its own: the line imports nothing of serving.
    Raises StageError with what it says no to, or that it is away."""
    if find_spec("httpx") is None:
        raise StageError("--url needs the client: pip install 'ostinato[client]'")
    command = [sys.executable, "-m", "serving.client", url, name]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True)
    if done.returncode:
        try:
            told = json.loads(done.stderr.strip().splitlines()[-1])
        except (IndexError, ValueError):
            raise StageError(f"{url} cannot be asked: {done.stderr.strip()[-300:]}") from None
        if not told["status"]:
            raise StageError(
                f"{url} cannot be asked ({told['message']}): is the address right, and is it up?"
            )
        hint = "; put its key in OSTINATO_KEY" if told["status"] in (401, 403) else ""
        raise StageError(f"{url} says: {told['message']}{hint}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _write(target: Path, answer: dict[str, Any]) -> None:
    score = answer["score"]
    write_bytes(target, score["data"].encode() if score else base64.b64decode(answer["midi"]))


def sent(file: Path) -> dict[str, str]:
    """A file as a request has it; the service tells its format."""
    try:
        return {"data": base64.b64encode(file.read_bytes()).decode()}
    except OSError as error:
        raise StageError(f"{file}: {error.strerror}") from error


def compose(url: str, targets: Sequence[Path], asked: dict[str, Any]) -> None:
    answer = ask(url, "compose", {**asked, "format": check_suffix(targets[0])})
    for take, target in zip(answer["takes"], targets, strict=True):
        _write(target, take)
        typer.echo(
            f"{target}: {take['notes']} notes in {take['bars']} bars, seed {take['seed']}, id {take['id']}"
        )


def edit(url: str, file: Path, targets: Sequence[Path], asked: dict[str, Any]) -> None:
    answer = ask(url, "edit", {"score": sent(file), **asked, "format": check_suffix(targets[0])})
    for each, target in zip(answer["alternatives"], targets, strict=True):
        _write(target, each)
        total, contract = Counter[str](), each["contract"]
        for change in each["changes"]:
            total.update({kind: change[kind] for kind in ("added", "removed", "moved")})
        typer.echo(f"{target}  (seed {each['seed']}, id {each['id']})")
        typer.echo(
            f"  {len(each['changes'])} cells changed: {total['added']} notes added, {total['removed']} "
            f"removed, {total['moved']} moved; outside the region {contract['cells_kept']} cells: "
            f"{'kept' if contract['equal'] else 'BROKEN'}"
        )
        for warning in each["warnings"]:
            typer.echo(f"  note: {warning}")


def _item(item: dict[str, Any]) -> str:
    return f"{item['id']}  {item['style']} {item['rhythm']} {item['metre']} {item['key']}"


def similar(url: str, asked: dict[str, Any]) -> None:
    answer = ask(url, "similar", asked)
    for each in answer["found"]:
        typer.echo(f"{each['likeness']:.3f}  {_item(each['item'])}")
        (first, last), (its_first, its_last) = (each["matches"][0][name] for name in ("query_bars", "bars"))
        typer.echo(
            f"       bars {first}-{last} are like its bars {its_first}-{its_last}; {each['why']['text']}"
        )
    typer.echo(f"of {answer['searched']} items")


def recommend(url: str, asked: dict[str, Any]) -> None:
    answer = ask(url, "recommend", asked)
    for each in answer["found"]:
        spoke = ", ".join(f"{name} {share:.0%}" for name, share in each["spoke"].items())
        typer.echo(f"{each['score']:7.3f}  {_item(each['item'])}  [{spoke}]")
        if each["why"]:
            typer.echo(f"         like {each['like']}: {each['why']['text']}")
    for warning in answer["warnings"]:
        typer.echo(f"note: {warning}")
    typer.echo(f"{answer['likes']} liked, {answer['dislikes']} disliked")

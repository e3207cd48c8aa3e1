"""`ostinato`: the commands that change the world. `dvc repro` computes; these register, promote, package,
serve and watch. One file here is each group of them."""

from importlib.metadata import version as installed
from typing import Annotated

import typer

from pipelines.commands import (
    catalogue,
    compose,
    convert,
    data,
    edit,
    feedback,
    find,
    finetune,
    gc,
    history,
    improve,
    keys,
    line,
    log,
    rate,
    registry,
    reproduce,
    rollout,
    service,
)
from pipelines.running.machine import be_quiet

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"ostinato {installed('ostinato')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="say which it is")
    ] = False,
) -> None:
    """Compute with `dvc repro`; change the world with these."""
    be_quiet()


for command in (
    line.repro,
    line.profile,
    reproduce.reproduce,
    data.track,
    registry.register,
    registry.promote,
    registry.rollback,
    registry.versions,
    registry.package,
    registry.export,
    registry.ui,
    gc.gc,
    service.serve,
    service.drift,
    finetune.finetune,
    compose.compose,
    edit.edit,
    convert.convert,
    history.history,
    feedback.snapshot,
    feedback.forget,
    rate.rate,
    improve.improve,
    find.similar,
    find.recommend,
):
    app.command()(command)
app.command("interactions")(feedback.import_interactions)
app.add_typer(catalogue.catalogue, name="catalogue")
app.add_typer(keys.keys, name="keys")
app.add_typer(log.log, name="log")
app.add_typer(rollout.rollout, name="rollout")

if __name__ == "__main__":
    app()

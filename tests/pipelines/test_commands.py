"""The command line as it is read by a newcomer."""

import subprocess
import sys
from typing import Any

import typer

from pipelines.commands.app import app
from tests.conftest import ROOT


def commands(group: Any, path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        found |= commands(command, f"{path}{name} ") if inner else {f"{path}{name}": command}
    return found


def test_every_command_and_every_option_says_what_it_is_for() -> None:
    all_of = commands(typer.main.get_command(app))
    assert {"repro", "compose", "edit", "reproduce", "gc", "catalogue add"} <= set(all_of)
    for name, command in all_of.items():
        assert command.help, name
        for option in command.params:
            if option.param_type_name == "option":
                assert option.help, f"{name} {option.opts[0]} has no help"


def test_the_command_line_is_there_without_what_only_some_commands_need() -> None:
    slow = ("torch", "mlflow", "bentoml", "music21", "miditok")
    told = f"import sys, pipelines.commands.app; print([m for m in {slow} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

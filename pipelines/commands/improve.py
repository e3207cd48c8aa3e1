"""`ostinato improve`: the whole loop as one command. Feedback of the log, align and all after it, register,
gate, and a report."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer
from filelock import FileLock, Timeout

from pipelines.commands.feedback import Gathered, gather
from pipelines.commands.line import compute
from pipelines.commands.registry import go_live
from pipelines.running.files import StageError, plain_errors, whole_file, write_json
from pipelines.running.params import load_params
from pipelines.running.tracking import home

REPORT, STATE = Path("reports/improve.md"), "improved.json"


def improve(
    promote: Annotated[
        bool,
        typer.Option(
            "--promote",
            help=(
                "let the gate make the new version the champion; without it the gate only says what it "
                "would do"
            ),
        ),
    ] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="go on with too little new feedback")] = False,
    log: Annotated[
        Path | None, typer.Option(help="folder of the log; default: OSTINATO_LOG or <home>/log")
    ] = None,
) -> None:
    """Learn from what people said: snapshot the log, align and evaluate, register, and ask the gate. Safe to
    run from a timer: with too little that is new it changes nothing."""
    from pipelines.release import registry

    with plain_errors():
        knobs = load_params()
        home().mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(home() / "improve.lock", timeout=0):
                found = gather(log)
                new, heard = _new(found)
                if new < knobs.align.fewest_new and not anyway:
                    _report(
                        [
                            "Nothing was changed.",
                            "",
                            (
                                f"{new} new comparisons and ratings since the last time; "
                                f"align.fewest_new asks for {knobs.align.fewest_new}."
                            ),
                            "",
                            str(found),
                        ]
                    )
                    typer.echo(
                        f"nothing to do: {new} new comparisons and ratings, fewer than align.fewest_new "
                        f"({knobs.align.fewest_new}). {found}\nreport: {REPORT}"
                    )
                    return
                found.write()
                compute(knobs, "--downstream", "align")  # what comes before is taken as it is
                version = registry.register(Path("bundle"))
                verdict, outcome = _decide(version, promote)
                write_json(home() / STATE, {"heard": sorted(heard), "version": version.number})
                _report(_told(found, new, version, verdict, outcome))
                typer.echo(f"{verdict}\n{outcome}\nreport: {REPORT}")
        except Timeout:
            raise StageError("another `ostinato improve` is at work here: wait for it to end") from None


def _new(found: Gathered) -> tuple[int, set[str]]:
    """How many guarded comparisons and ratings were not there the last time; and the names of all there
    are."""
    from models.align.preferences import guarded
    from models.find.interactions import JUDGED

    kept, _ = guarded(found.preferences)
    heard = {f"{p.user} {p.chosen_id} {p.rejected_id}" for p in kept} | {
        f"{e.user} {e.item} {e.event}" for e in found.interactions if e.event in JUDGED
    }
    path = home() / STATE
    before = set(json.loads(path.read_text())["heard"]) if path.exists() else set()
    return len(heard - before), heard


def _decide(version: Any, promote: bool) -> tuple[Any, str]:
    from pipelines.release import registry

    gate = load_params().gate
    if not promote:
        verdict = registry.judged(gate, version, improved=True)
        return (
            verdict,
            (
                f"version {version.number} is registered, not promoted; the gate "
                f"{'would let it: ostinato promote' if verdict.passed else 'would refuse it'}"
            ),
        )
    try:
        promoted, verdict = registry.promote(gate, version.number, improved=True)
        go_live(promoted)
        return verdict, f"champion: version {promoted.number}"
    except registry.NotPromoted as refusal:
        return refusal.verdict, str(refusal).splitlines()[-1]


def _told(found: Gathered, new: int, version: Any, verdict: Any, outcome: str) -> list[str]:
    aligned = json.loads(Path("reports/align_report.json").read_text())
    compared = json.loads(Path("reports/metrics.json").read_text()).get("alignment", {})
    rows = [
        (
            f"| {name} | {row['real']:.3f} | {row['before']:.3f} | {row['after']:.3f} | {row['low']:+.3f} "
            f"to {row['high']:+.3f} |"
        )
        for name, row in compared.get("parts", {}).items()
    ]
    people = aligned.get("people", {})
    return [
        outcome,
        "",
        f"{new} new comparisons and ratings. {found}",
        "",
        (
            f"Learned from {people.get('comparisons', 0)} comparisons of {people.get('users', 0)} users; "
            f"quarantined: "
            f"{json.dumps({why: row['rows'] for why, row in aligned.get('quarantined', {}).items()})}."
        ),
        "",
        "| reward | real music | before | after | change, 95 % |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"Version {version.number}, bundle {version.digest[:16]}.",
        "",
        "```",
        str(verdict),
        "```",
    ]


def _report(lines: list[str]) -> None:
    with whole_file(REPORT) as temporary:
        temporary.write_text(
            "\n".join(
                [
                    "# ostinato improve",
                    "",
                    datetime.now(timezone.utc).isoformat(timespec="seconds"),
                    "",
                    *lines,
                ]
            )
            + "\n"
        )

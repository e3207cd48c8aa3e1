"""`ostinato edit`: the operations of POST /v1/edit on files, with the champion here or by a service."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands import remote
from pipelines.commands.convert import check_suffix, write_as
from pipelines.commands.remote import Url
from pipelines.running.files import StageError, plain_errors

REACH = "e.g. 5-8 or 3; left out: all"


def edit(
    file: Annotated[Path, typer.Argument(help="MIDI, MusicXML, kern or ABC")],
    operation: Annotated[
        str, typer.Argument(help="infill, vary, restyle, transpose, ...: docs/editing.md has them all")
    ],
    bars: Annotated[str, typer.Option(help=f"bars of the region, {REACH}")] = "",
    tracks: Annotated[str, typer.Option(help="tracks of the region, e.g. 1,2; left out: all")] = "",
    style: Annotated[str, typer.Option(help="a style of the training data, e.g. irish")] = "",
    rhythm: Annotated[str, typer.Option(help="a dance, e.g. jig")] = "",
    key: Annotated[str, typer.Option(help="e.g. 'D major', or the key that --steps are steps of")] = "",
    metre: Annotated[str, typer.Option(help="e.g. 6/8")] = "",
    density: Annotated[float | None, typer.Option(help="notes per quarter")] = None,
    note_length: Annotated[float | None, typer.Option(help="quarters")] = None,
    syncopation: Annotated[float | None, typer.Option(help="share of onsets")] = None,
    polyphony: Annotated[float | None, typer.Option(help="notes at once")] = None,
    chords: Annotated[
        str, typer.Option(help="from the first bar of the region on, e.g. 'Dm7 | G7 | C'")
    ] = "",
    keep: Annotated[
        str, typer.Option(help="notes of the region that stay, track:number by onset, e.g. 1:3,1:4")
    ] = "",
    strength: Annotated[
        float | None,
        typer.Option(
            help=(
                "vary, restyle: share of the cells that is written again; quantise: how far notes "
                "move, 0 to 1"
            )
        ),
    ] = None,
    length: Annotated[int | None, typer.Option(help="bars that continue adds")] = None,
    before: Annotated[bool, typer.Option(help="continue before the first bar")] = False,
    melody: Annotated[int | None, typer.Option(help="track that harmonise and reharmonise keep")] = None,
    instrument: Annotated[
        list[str] | None, typer.Option(help="of the tracks to write; may be given again")
    ] = None,
    semitones: Annotated[int | None, typer.Option(help="transpose: up (or down, below 0)")] = None,
    to_key: Annotated[str, typer.Option(help="transpose: to this key, the nearer way")] = "",
    steps: Annotated[int | None, typer.Option(help="diatonic steps")] = None,
    grid: Annotated[str, typer.Option(help="quantise: to this note, e.g. 1/16 or 1/8T")] = "",
    amount: Annotated[
        float | None, typer.Option(help="swing: share of the beat before the second quaver, 0.5 to 0.75")
    ] = None,
    timing_ms: Annotated[float | None, typer.Option(help="humanise: standard deviation of onsets")] = None,
    loudness: Annotated[float | None, typer.Option(help="humanise: standard deviation of velocities")] = None,
    qpm: Annotated[float | None, typer.Option(help="tempo: quarters a minute")] = None,
    factor: Annotated[
        float | None, typer.Option(help="tempo: so many times as fast; stretch: so many times as long")
    ] = None,
    axis: Annotated[int | None, typer.Option(help="invert: about this MIDI pitch")] = None,
    pitch: Annotated[
        int | None, typer.Option(help="split: lowest MIDI pitch that stays in its track")
    ] = None,
    fit: Annotated[
        bool, typer.Option(help="metre: one bar for one bar; otherwise only the barlines move")
    ] = False,
    guidance: Annotated[float | None, typer.Option(help="above 1 what is asked is pressed harder")] = None,
    temperature: Annotated[float | None, typer.Option(help="above 1 bolder, below 1 safer")] = None,
    seed: Annotated[int, typer.Option(help="the same seed gives the same notes")] = 0,
    n: Annotated[int, typer.Option(help="alternatives")] = 1,
    out: Annotated[
        Path | None, typer.Option(help=".mid, .musicxml or .abc file; default: <file>.<operation>.mid")
    ] = None,
    force: Annotated[bool, typer.Option(help="write over an existing file")] = False,
    url: Url = "",
) -> None:
    """Change a part of a score and show what changed, and that nothing else did."""
    given: dict[str, Any] = {
        name: value
        for name, value in {
            "style": style,
            "rhythm": rhythm,
            "key": key,
            "metre": metre,
            "chords": chords,
            "keep": _kept(keep),
            "strength": strength,
            "length": length,
            "before": before,
            "melody": melody,
            "instruments": instrument,
            "semitones": semitones,
            "to_key": to_key,
            "steps": steps,
            "grid": grid,
            "amount": amount,
            "timing_ms": timing_ms,
            "loudness": loudness,
            "qpm": qpm,
            "factor": factor,
            "axis": axis,
            "pitch": pitch,
            "fit": fit,
            "guidance": guidance,
            "temperature": temperature,
        }.items()
        if value not in (None, "", False, [], ())
    }
    controls = {
        name: value
        for name, value in {
            "density": density,
            "note_length": note_length,
            "syncopation": syncopation,
            "polyphony": polyphony,
        }.items()
        if value is not None
    }
    from models.edit.edit import unknown_option
    from music.score.file_cells import FileCells
    from pipelines.release.versions import champion_bundle

    with plain_errors():
        _check_operation(operation, [*given, *(["controls"] if controls else [])])
        targets = _targets(file, operation, out, n, force)
        region, of = span(bars), _numbers(tracks)
        if url:
            told: dict[str, Any] = {**given, **({"controls": controls} if controls else {})}
            told |= {"operation": operation, "n": n}
            told |= {} if unknown_option(operation, ["seed"]) else {"seed": seed}
            told |= {"bars": (region[0] + 1, region[1])} if region else {}
            told |= {"tracks": [k + 1 for k in of]} if of else {}
            told |= {"keep": [{"track": k + 1, "note": i + 1} for k, i in given["keep"]]} if keep else {}
            return remote.edit(url, file, targets, told)
        bundle, reading = champion_bundle()[1], read_piece(file)
        answers = _carry_out(
            bundle,
            reading,
            operation,
            given | ({"controls": controls} if controls else {}),
            region,
            of,
            seed,
            n,
        )
        for answer, target in zip(answers, targets, strict=True):
            _show(answer, target, reading)
            _show_scorecards(bundle, FileCells.of(reading.score), answer.file, region)


def _check_operation(operation: str, given: list[str]) -> None:
    from models.edit.edit import NAMES, unknown_option

    if operation not in NAMES:
        raise StageError(f"unknown operation {operation!r}; known are {', '.join(NAMES)}")
    if problem := unknown_option(operation, given):
        raise StageError(problem)


def _targets(file: Path, operation: str, out: Path | None, n: int, force: bool) -> list[Path]:
    if out:
        check_suffix(out)
    first = out or file.with_name(f"{file.stem}.{operation}.mid")
    numbered = [first.with_name(f"{first.stem}-{k + 1}{first.suffix}") for k in range(n)]
    targets = [first] if n == 1 else numbered
    there = [str(target) for target in targets if target.exists()]
    if there and not force:
        raise StageError(
            f"{', '.join(there)} exists: choose another name with --out, or write over it with --force"
        )
    return targets


def span(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    first, _, last = text.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal() or int(first) < 1:
        raise StageError(f"--bars {text}: write bars as 5-8 or 3, counted from 1")
    return int(first) - 1, int(last or first)


def _kept(text: str) -> tuple[tuple[int, int], ...]:
    found = []
    for part in text.split(",") if text else []:
        track, _, note = part.strip().partition(":")
        if not track.isdecimal() or not note.isdecimal() or not int(track) or not int(note):
            raise typer.BadParameter(
                f"--keep {text}: write notes as 1:3,1:4, track and number counted from 1"
            )
        found.append((int(track) - 1, int(note) - 1))
    return tuple(found)


def _numbers(text: str) -> tuple[int, ...] | None:
    if not text:
        return None
    if not all(part.strip().isdecimal() and int(part) > 0 for part in text.split(",")):
        raise StageError(f"--tracks {text}: write tracks as 1,2, counted from 1")
    return tuple(int(part) - 1 for part in text.split(","))


def _carry_out(
    bundle: Any,
    reading: Any,
    operation: str,
    given: dict[str, Any],
    bars: tuple[int, int] | None,
    tracks: tuple[int, ...] | None,
    seed: int,
    n: int,
) -> list[Any]:
    from models.edit.by_rule import RULES, Rule
    from models.edit.edit import apply_rule, edit_file
    from models.edit.tasks import Edit
    from models.fill.fill import fill
    from music.score.errors import UnreadableScore
    from music.score.file_cells import FileCells

    withheld = sorted(set(given.get("controls", {})) - bundle.controls)
    if withheld:
        raise StageError(
            f"the champion was not found to obey {', '.join(withheld)}, so it is not offered; offered are "
            f"{', '.join(sorted(bundle.controls)) or 'none'}"
        )
    try:
        cells = FileCells.of(reading.score)
        if operation in RULES:
            return [
                apply_rule(cells, operation, Rule(**given, seed=seed + k), bars, tracks, reading.source)
                for k in range(n)
            ]
        if "melody" in given:
            given["melody"] -= 1
        if "instruments" in given:
            given["instruments"] = tuple(given["instruments"])
        decoder = bundle.decoder(16)
        return edit_file(
            bundle.tokenizer,
            bundle.judges,
            lambda requests: fill(decoder, bundle.tokenizer, requests),
            cells,
            Edit(operation, bars, tracks, seed=seed, **given),
            n,
            reading.source,
        )
    except (UnreadableScore, ValueError) as error:
        raise StageError(str(error)) from error


def read_piece(file: Path) -> Any:
    """The one piece of a file, a `Reading`."""
    from models.edit.edit import LIMITS
    from music.reading.files import only_piece, read_file
    from music.score.errors import UnreadableScore

    try:
        return only_piece(read_file(file.read_bytes(), file.name, LIMITS))
    except OSError as error:
        raise StageError(f"{file}: {error.strerror}") from error
    except UnreadableScore as error:
        raise StageError(f"{file}: {error}") from error


def _show(answer: Any, target: Path, reading: Any) -> None:
    from music.score.form import bar_table
    from music.writing.files import chords_after

    changed = answer.bars_changed(len(bar_table(reading.score)))
    score = answer.file.score
    write_as(target, answer.midi, score, chords=partial(chords_after, score, reading.chords, changed))
    total = Counter[str]()
    for change in answer.changes:
        total.update({kind: change[kind] for kind in ("added", "removed", "moved")})
    typer.echo(f"{target}  (seed {answer.seed})")
    if answer.contract.whole:
        typer.echo("  the operation is of the whole score")
    else:
        typer.echo(
            f"  {len(answer.changes)} cells changed: {total['added']} notes added, {total['removed']} "
            f"removed, {total['moved']} moved"
        )
        typer.echo(
            f"  outside the region: {answer.contract.cells_kept} cells, sha256 before "
            f"{answer.contract.before[:16]} after {answer.contract.after[:16]}: "
            f"{'kept' if answer.contract.kept else 'BROKEN'}"
        )
    for warning in answer.warnings:
        typer.echo(f"  note: {warning}")


def _show_scorecards(bundle: Any, before: Any, after: Any, bars: tuple[int, int] | None) -> None:
    """How the model sees the region with what is around it, before and after, and what changed most in it."""
    from models.judge.scorecard import judge_around
    from music.analysis.descriptors import DESCRIPTORS

    (old, _), (new, why) = judge_around(bundle, before, bars), judge_around(bundle, after, bars)
    if new is None or old is None:
        typer.echo(f"  no scorecard: {why or 'the score as it was has no tokens'}")
        return
    a, b = old.scorecard, new.scorecard
    typer.echo(
        f"  nats per note {a['nats_per_note']:.2f} -> {b['nats_per_note']:.2f} (percentile "
        f"{a['percentile']:.0f} -> {b['percentile']:.0f}); longest run shared with a training "
        f"piece {a['originality']['longest_shared_run']} -> {b['originality']['longest_shared_run']}"
    )
    moved = sorted(
        DESCRIPTORS,
        key=lambda d: (
            -abs(b["descriptors"][d.name] - a["descriptors"][d.name]) / (abs(a["descriptors"][d.name]) + 0.1)
        ),
    )[:3]
    typer.echo(
        "  "
        + "; ".join(
            f"{d.name} {a['descriptors'][d.name]:.2f} -> {b['descriptors'][d.name]:.2f} {d.unit}"
            for d in moved
        )
    )

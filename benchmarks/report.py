"""The one form of a benchmark's result: machine, date, command, rows, targets."""

import json
import platform
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import torch

FOLDER = Path("reports/benchmarks")


def machine() -> str:
    """Processor, cores, memory and versions: what a figure was measured on."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return (
        f"{model}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB; Python "
        f"{platform.python_version()}, torch {torch.__version__}"
    )


def target(value: float, op: str, limit: float) -> dict[str, Any]:
    """A target with whether it is met."""
    return {
        "value": round(float(value), 4),
        "target": limit,
        "op": op,
        "met": bool(value <= limit if op == "<=" else value >= limit),
    }


def write(name: str, rows: list[dict[str, Any]], targets: dict[str, dict[str, Any]], by: str = "") -> None:
    """Write and print one result; `by`: the script that makes it, where that is not benchmarks/<name>.py."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    result = {
        "machine": machine(),
        "date": date.today().isoformat(),
        "command": f"python -m benchmarks.{by or name}",
        "rows": rows,
        "targets": targets,
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(rows))
    for target_name, row in targets.items():
        print(
            f"{'met   ' if row['met'] else 'MISSED'} {target_name}: {row['value']} {row['op']} "
            f"{row['target']}"
        )


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of rows; the columns are all their keys."""
    if not rows:
        return ""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = [
        " | ".join(keys),
        " | ".join("---" for _ in keys),
        *(" | ".join(str(row.get(key, "")) for key in keys) for row in rows),
    ]
    return "\n".join(f"| {line} |" for line in lines)

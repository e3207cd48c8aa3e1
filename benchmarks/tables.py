"""Write the tables of README.md and docs/ from reports/benchmarks/*.json and reports/metrics.json, between
their markers; no figure is typed by hand.

`python -m benchmarks.tables` rewrites; with `--check` it fails where a page differs.
"""

import json
import re
import sys
from pathlib import Path

from benchmarks import report

PAGES = (
    Path("README.md"),
    Path("docs/benchmarks.md"),
    Path("docs/finetune.md"),
    Path("docs/editing.md"),
    Path("docs/recommend.md"),
    Path("docs/align.md"),
    Path("docs/operations.md"),
    *sorted(Path("docs/decisions").glob("*.md")),
)


def benchmark_table(script: str) -> str:
    """The table of one script, with its command, machine and date under it; nothing where it has not been
    run."""
    if not (report.FOLDER / f"{script}.json").exists():
        return f"Not measured yet: `python -m benchmarks.{script}`."
    result = json.loads((report.FOLDER / f"{script}.json").read_text())
    missed = [
        f"{name} {row['value']} (target {row['op']} {row['target']})"
        for name, row in result["targets"].items()
        if not row["met"]
    ]
    under = f"`{result['command']}`, {result['date']}, {result['machine']}."
    return f"{report.table(result['rows'])}\n\n{under}" + (f" Missed: {'; '.join(missed)}." if missed else "")


def rewritten(text: str) -> str:
    """A page with every `<!-- table: script -->` block filled."""

    def fill(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{benchmark_table(match[1])}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> None:
    for page in PAGES:
        text = page.read_text()
        new = rewritten(text)
        if new != text and "--check" in sys.argv[1:]:
            sys.exit(f"{page} differs from reports/: run `make tables`")
        page.write_text(new)


if __name__ == "__main__":
    main()

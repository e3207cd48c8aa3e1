"""Profiles: named sets of values that are written into params.yaml, so that the file always shows what will
run."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipelines.running.files import StageError, whole_file
from pipelines.running.params import load_params


def apply_profile(path: Path, name: str) -> dict[str, Any]:
    """Write profile `name` of `path` into it and return what was written. Raises StageError for an unknown
    profile or entry."""
    known = load_params(path).profiles
    if name not in known:
        raise StageError(f"no profile {name!r}; there are {', '.join(known)}")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(path.read_text())
    for dotted, value in known[name].items():
        *sections, last = dotted.split(".")
        node = document
        for section in sections:
            node = node.get(section, {})
        if last not in node:
            raise StageError(f"profile {name}: params.yaml has no entry {dotted}")
        node[last] = value
    with whole_file(path) as temporary, temporary.open("w") as handle:
        yaml.dump(document, handle)
    load_params(path)
    return known[name]

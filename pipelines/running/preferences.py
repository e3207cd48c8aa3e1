"""Comparisons of two answers, in data/feedback/preferences.parquet, which `align` reads."""

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from models.align.preferences import Preference
from pipelines.running.feedback import PREFERENCES
from pipelines.running.files import write_parquet

SCHEMA = pa.schema([(name, pa.string()) for name in Preference.__dataclass_fields__])


def write_preferences(preferences: list[Preference], path: Path = PREFERENCES) -> None:
    write_parquet(path, [asdict(p) for p in preferences], SCHEMA)


def read_preferences(path: Path = PREFERENCES) -> list[Preference]:
    """What the last snapshot wrote; nothing where there was none."""
    return [Preference(**row) for row in pq.read_table(path).to_pylist()] if path.exists() else []

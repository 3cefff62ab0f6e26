"""GPQA rows of our own, in the columns that the task reads: the real ones are gated and stay out of plain text."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

CONFIGS = ("gpqa_diamond", "gpqa_extended", "gpqa_main")


def write_gpqa(mirror: Path, rows: dict[str, int], *, mark: str = "") -> Path:
    """A data set folder with this many made-up rows in each configuration."""
    folder = mirror / "Idavidrein" / "gpqa"
    listed = []
    for config, n in rows.items():
        (folder / config).mkdir(parents=True, exist_ok=True)
        columns = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
        table = {"Question": [f"{mark}{config} {i}?" for i in range(n)]}
        table |= {c: [f"{mark}{c} of {i}" for i in range(n)] for c in columns}
        pq.write_table(pa.table(table), folder / config / "train.parquet")
        listed.append(
            f"- config_name: {config}\n  data_files:\n  - split: train\n    path: {config}/train.parquet\n"
        )
    (folder / "README.md").write_text(f"---\nconfigs:\n{''.join(listed)}---\n")
    return folder

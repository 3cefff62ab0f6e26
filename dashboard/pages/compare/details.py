"""The numbers behind a comparison's verdicts: p-values, tests, detectable differences, remarks, downloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard import widgets
from dashboard.pairing import bars
from orchestrator.charts import ChartError, delta_bars_image, image_bytes
from orchestrator.compare import SIGNIFICANT, Comparison, ComparisonRow, correction_text
from orchestrator.display.format import p_value
from orchestrator.display.text_safety import line
from orchestrator.store.records import RunRecord


def show_details(run: RunRecord, comparison: Comparison) -> None:
    """Draw the remarks on the rows, and in an expander p-values, tests and downloads."""
    rows = [*comparison.rows, *comparison.averages]
    for text in remarks(rows):
        st.text(text)
    with st.expander("Details: p, test, smallest detectable difference, downloads"):
        widgets.table(
            [_cells(row) for row in rows],
            "compared_details",
            height=widgets.table_height(len(rows)),
            name="Tests by benchmark",
        )
        st.caption(
            f"Intervals and p are from paired answers, each for its row alone. p corrected: "
            f"{correction_text(comparison.n_tests, comparison.n_candidates)}; better or worse is p corrected < {SIGNIFICANT}. "
            "Detectable: the smallest true difference, in points, that such a run would mostly have found."
        )
        _downloads(run, comparison, rows)


def remarks(rows: Sequence[ComparisonRow]) -> list[str]:
    """Remarks on the rows without duplicates, each with its benchmarks; refusals have a part of their own."""
    about: dict[str, list[str]] = {}
    for row in rows:
        forced = [f"! compared although: {reason}" for reason in row.refused if row.forced]
        for text in (*forced, *row.notes):
            about.setdefault(text, []).append(row.title)
    return [f"{line(', '.join(titles), 120)}: {line(text, 300)}" for text, titles in about.items()]


def _cells(row: ComparisonRow) -> dict[str, Any]:
    d = row.delta
    return {
        "Benchmark": line(row.title, 60),
        "Δ points": round(d.delta_points, 2) if d else None,
        "95 % interval": f"[{d.interval.low:+z.2f}, {d.interval.high:+z.2f}]" if d else "",
        "p": p_value(d.p) if d else "",
        "p corrected": p_value(row.p_corrected) if d else "",
        "Test": d.test.value if d else "",
        "Detectable, points": round(d.detectable_points, 2) if d else None,
        "Questions": d.n if d else None,
        "Gained": d.gained if d else None,
        "Lost": d.lost if d else None,
    }


def _downloads(run: RunRecord, comparison: Comparison, rows: Sequence[ComparisonRow]) -> None:
    flat = [_flat(comparison, row) for row in rows]
    title = f"{line(comparison.candidate, 60)} against {line(comparison.base, 60)}"
    theme = widgets.theme()
    with st.container(horizontal=True):
        widgets.download("CSV", "comparison.csv", lambda: widgets.csv_of(flat), "text/csv", "compared_csv")
        for kind, mime in (("png", "image/png"), ("svg", "image/svg+xml")):

            def picture(kind: str = kind) -> bytes:
                try:
                    return image_bytes(delta_bars_image(bars(comparison), title, theme), kind)
                except ChartError as error:
                    return str(error).encode()

            widgets.download(kind.upper(), f"compare-{run.id}.{kind}", picture, mime, f"forest_{kind}")


def _flat(comparison: Comparison, row: ComparisonRow) -> dict[str, Any]:
    """A row as a record for export, with every field."""
    values = row.delta.model_dump(mode="json", exclude={"interval"}) if row.delta else {}
    span = row.delta.interval if row.delta else None
    return {
        "base_name": comparison.base,
        "candidate_name": comparison.candidate,
        "suite": row.suite,
        "benchmark": row.benchmark or row.title,
        "base": row.base,
        "candidate": row.candidate,
        **{k: v for k, v in values.items() if k not in ("base", "candidate")},
        "interval_low": span.low if span else None,
        "interval_high": span.high if span else None,
        "p_corrected": row.p_corrected,
        "n_tests": comparison.n_tests,
        "n_candidates": comparison.n_candidates,
        "verdict": row.verdict,
        "not_compared_because": "; ".join(row.refused),
        "notes": "; ".join(row.notes),
    }

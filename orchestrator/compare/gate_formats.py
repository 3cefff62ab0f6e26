"""A gate's report as text, JSON, Markdown and JUnit XML."""

from __future__ import annotations

import re
from enum import StrEnum
from xml.etree import ElementTree

from orchestrator.compare.gate import GateReport, Outcome, RequirementResult
from orchestrator.display.text_safety import line

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LONGEST = 2_000


class GateFormat(StrEnum):
    """Formats of a gate's report."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    JUNIT = "junit"


def render(report: GateReport, form: GateFormat) -> str:
    """The report in one format, ending in a line break."""
    if form is GateFormat.JSON:
        return report.model_dump_json(indent=2) + "\n"
    if form is GateFormat.MARKDOWN:
        return _markdown(report)
    return _junit(report) if form is GateFormat.JUNIT else _text(report)


def _text(report: GateReport) -> str:
    rows = [("", "benchmark", "n", "Δ points", "interval", "requirement")]
    rows += [(_word(r), line(r.title, 40), *_figures(r), r.requirement) for r in report.results]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [line(f"{report.candidate} against {report.base}, {report.suite}", _LONGEST)]
    lines += ["  ".join([*map(str.ljust, row[:5], widths), row[5]]) for row in rows]
    lines += [line(f"{r.title}: {r.remedy}.", _LONGEST) for r in report.results if _open(r) and r.remedy]
    lines += [line(report.sentence, _LONGEST), _rates(report)]
    return "\n".join(text.rstrip() for text in lines) + "\n"


def _markdown(report: GateReport) -> str:
    lines = [
        f"## {report.verdict}: {_cell(report.candidate)} against {_cell(report.base)}",
        "",
        "| | benchmark | n | Δ points | interval | requirement |",
        "| --- | --- | --: | --: | --: | --- |",
    ]
    lines += [
        "| " + " | ".join(_cell(text) for text in (_word(r), r.title, *_figures(r), r.requirement)) + " |"
        for r in report.results
    ]
    lines += ["", _cell(report.sentence), ""]
    lines += [f"- {_cell(r.title)}: {_cell(r.remedy)}." for r in report.results if _open(r) and r.remedy]
    return "\n".join([*lines, "", _rates(report)]) + "\n"


def _junit(report: GateReport) -> str:
    """One test case per requirement: broken is a failure, open and not compared are errors if critical, else skipped."""
    cases = ElementTree.Element(
        "testsuite", name=_xml(f"mergeboard gate {report.candidate} against {report.base}")
    )
    counts = {"failure": 0, "error": 0, "skipped": 0}
    for result in report.results:
        case = ElementTree.SubElement(
            cases, "testcase", classname=_xml(report.suite), name=_xml(result.title)
        )
        if result.outcome is not Outcome.HELD:
            kind = (
                ("failure" if result.outcome is Outcome.BROKEN else "error") if result.critical else "skipped"
            )
            counts[kind] += 1
            reason = _xml(result.reason)
            ElementTree.SubElement(case, kind, message=reason).text = _xml(result.remedy or result.reason)
        ElementTree.SubElement(case, "system-out").text = _xml(" ".join((_word(result), *_figures(result))))
    cases.set("tests", str(len(report.results)))
    for kind, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        cases.set(attribute, str(counts[kind]))
    properties = ElementTree.Element("properties")
    ElementTree.SubElement(properties, "property", name="verdict", value=str(report.verdict))
    cases.insert(0, properties)
    ElementTree.indent(cases)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(cases, encoding="unicode") + "\n"


def _word(result: RequirementResult) -> str:
    advisory = "" if result.critical else ", advisory"
    return f"{result.outcome}{', forced' if result.forced else ''}{advisory}"


def _figures(result: RequirementResult) -> tuple[str, str, str]:
    if result.delta_points is None or result.interval is None:
        return "", "", ""
    span = f"{result.interval.low:+z.2f} … {result.interval.high:+z.2f}"
    return f"{result.n:,}", f"{result.delta_points:+z.2f}", span


def _rates(report: GateReport) -> str:
    corrected = f", corrected for {report.n_candidates:,} candidates" if report.n_candidates > 1 else ""
    return f"Error rate {report.error_rate:g}{corrected}; each end of an interval is a one-sided bound (docs/gate.md)."


def _open(result: RequirementResult) -> bool:
    return result.outcome in (Outcome.OPEN, Outcome.NOT_COMPARED)


def _cell(text: str | None) -> str:
    """Untrusted text in Markdown: one line, without markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", line(text or "", _LONGEST))


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", line(text, _LONGEST))

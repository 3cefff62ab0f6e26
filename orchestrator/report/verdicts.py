"""The verdict of a run or a comparison in words."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.compare import Comparison
from orchestrator.compare.remedy import reason_with_remedy
from orchestrator.compare.verdict import Effect, Refusal, RunVerdict, Standing
from orchestrator.report.deltas import interval_text, signed
from orchestrator.report.page import ReportLine, ReportTone, ReportVerdict

_MOST_EFFECTS = 4
_MOST_NAMES = 3
_MOST_REFUSALS = 6


def run_text(verdict: RunVerdict, *, ended: bool) -> ReportVerdict:
    """What a run shows; `ended` says whether candidates without scores can still get some."""
    better, worse, mixed, unshown, refused, pending = (
        verdict.count(standing)
        for standing in (
            Standing.BETTER,
            Standing.WORSE,
            Standing.MIXED,
            Standing.UNSHOWN,
            Standing.REFUSED,
            Standing.PENDING,
        )
    )
    compared = better + worse + mixed + unshown
    lines = [*_averages(verdict), *_benchmarks(verdict), *_early(verdict), *_refusals(verdict.refusals)]
    if pending:
        what = "without any score: their jobs failed or were not run" if ended else "still without a score"
        lines.append(ReportLine(text=f"{_recipes(pending)} {what}.", tone=ReportTone.WARNING))
    if verdict.partial:
        names = _names(verdict.partial)
        lines.append(
            ReportLine(text=f"Partial scores, on a part of the questions: {names}.", tone=ReportTone.WARNING)
        )
    if not compared:
        reason = f"None of the {_recipes(refused + pending)} could be compared with {verdict.base}."
        return ReportVerdict(headline=reason, tone=ReportTone.REFUSED, lines=tuple(lines))
    left = refused + pending
    rest = f" {left:,} more {'was' if left == 1 else 'were'} not compared." if left else ""
    if out := verdict.count(Standing.LEFT):
        rest += f" {out:,} left the race."
    counts = [
        (count, what)
        for count, what in (
            (better, f"better than {verdict.base}"),
            (worse, f"worse than {verdict.base}" if not better else "worse"),
            (mixed, "better on some benchmarks and worse on others"),
        )
        if count
    ]
    if not counts:
        headline = f"No difference is shown: none of {_recipes(compared)} is better or worse than {verdict.base}.{rest}"
        return ReportVerdict(headline=headline, lines=tuple(lines))
    (first, what), *others = counts
    parts = [f"{first:,} of {_recipes(compared)} {_is(first)} {what}"]
    parts += [f"{count:,} {_is(count)} {what}" for count, what in others]
    none_better = "; none is better" if not better and not mixed else ""
    headline = f"{', '.join(parts)}{none_better}.{rest}"
    tone = ReportTone.BETTER if better else ReportTone.WORSE if worse else ReportTone.HINT
    return ReportVerdict(headline=headline, tone=tone, lines=tuple(lines))


def _early(verdict: RunVerdict) -> list[ReportLine]:
    """What was decided before the whole benchmark was asked."""
    if not verdict.early:
        return []
    more = len(verdict.early) - _MOST_EFFECTS
    texts = [*verdict.early[:_MOST_EFFECTS], *([f"and {more:,} more, below"] if more > 0 else [])]
    return [
        ReportLine(text="Decided early, without scores:", strong=True),
        *(ReportLine(text=t) for t in texts),
    ]


def comparison_text(comparison: Comparison, verdict: RunVerdict) -> ReportVerdict:
    """What the comparison of one candidate shows."""
    standing, name, base = verdict.standings[comparison.candidate], comparison.candidate, comparison.base
    lines = [*_one_average(comparison), *_benchmarks(verdict), *_refusals(verdict.refusals)]
    texts = {
        Standing.BETTER: (f"{name} is better than {base}.", ReportTone.BETTER),
        Standing.WORSE: (f"{name} is worse than {base}.", ReportTone.WORSE),
        Standing.MIXED: (
            f"{name} is better than {base} on some benchmarks and worse on others.",
            ReportTone.HINT,
        ),
        Standing.UNSHOWN: (f"No difference between {name} and {base} is shown.", ReportTone.PLAIN),
        Standing.REFUSED: (f"{name} and {base} could not be compared.", ReportTone.REFUSED),
        Standing.PENDING: (f"{name} has no score yet.", ReportTone.REFUSED),
    }
    headline, tone = texts[standing]
    return ReportVerdict(headline=headline, tone=tone, lines=tuple(lines))


def effect_line(effect: Effect) -> ReportLine:
    """An effect with its interval."""
    low, high = effect.interval.low, effect.interval.high
    tone = ReportTone.BETTER if effect.improved else ReportTone.WORSE
    text = effect.sentence.replace(" -", " \N{MINUS SIGN}")
    return ReportLine(text=f"{text}, 95 % interval {interval_text(low, high)}", tone=tone)


def _one_average(comparison: Comparison) -> list[ReportLine]:
    lines = []
    for row in comparison.averages:
        if row.delta is None:
            continue
        delta = row.delta
        span = interval_text(delta.interval.low, delta.interval.high)
        text = f"{row.title}: {signed(delta.delta_points)} points, 95 % interval {span}"
        if row.significant:
            tone = ReportTone.BETTER if row.improved else ReportTone.WORSE
            lines.append(ReportLine(text=f"{text}.", tone=tone))
        else:
            missed = f"a true difference of less than about {delta.detectable_points:.1f} would mostly have been missed"
            lines.append(ReportLine(text=f"{text}: not shown; {missed}."))
    return lines


def _averages(verdict: RunVerdict) -> list[ReportLine]:
    if not verdict.n_averages:
        return []
    better = sum(effect.improved for effect in verdict.average_effects)
    worse = len(verdict.average_effects) - better
    lines = [
        ReportLine(text=f"Average: {better} of {verdict.n_averages} better, {worse} worse.", strong=True)
    ]
    return [*lines, *_shown(verdict.average_effects)]


def _benchmarks(verdict: RunVerdict) -> list[ReportLine]:
    effects = verdict.benchmark_effects
    if not effects:
        return (
            [ReportLine(text="Single benchmarks: no difference is shown.", strong=True)]
            if verdict.standings
            else []
        )
    better = sum(effect.improved for effect in effects)
    text = f"Single benchmarks: {better} better, {len(effects) - better} worse."
    return [ReportLine(text=text, strong=True), *_shown(effects)]


def _shown(effects: Sequence[Effect]) -> list[ReportLine]:
    """The largest gains and losses; the rest is counted."""
    gains = [effect for effect in effects if effect.improved]
    losses = [effect for effect in reversed(effects) if not effect.improved]
    half = _MOST_EFFECTS // 2
    n_gains = min(len(gains), max(half, _MOST_EFFECTS - len(losses)))
    shown = [*gains[:n_gains], *losses[: _MOST_EFFECTS - n_gains]]
    more = len(effects) - len(shown)
    lines = [effect_line(effect) for effect in shown]
    return [*lines, *([ReportLine(text=f"and {more:,} more in the table below.")] if more else [])]


def _refusals(refusals: Sequence[Refusal]) -> list[ReportLine]:
    lines = [
        ReportLine(
            text=f"Not compared: {_names(refusal.candidates)}. {reason_with_remedy(refusal.reason)}",
            tone=ReportTone.REFUSED,
        )
        for refusal in refusals[:_MOST_REFUSALS]
    ]
    more = len(refusals) - len(lines)
    return [*lines, *([ReportLine(text=f"and {more:,} more reasons.")] if more else [])]


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return shown + (f" and {more:,} more" if more > 0 else "")


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _recipes(count: int) -> str:
    return "1 recipe" if count == 1 else f"{count:,} recipes"

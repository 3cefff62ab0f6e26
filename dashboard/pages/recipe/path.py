"""The path of a recipe: which layers a forward pass visits, in order, as a diagram and in words."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby, pairwise

from pydantic import Field

from evals.engine import Frozen
from orchestrator.display.text_safety import line
from orchestrator.store.records import CandidateRecord
from recipes.layer_visit import Layers, variant_runs
from recipes.recipe import Recipe

_MOST_LABELS = 10
_MOST_LINES = 600
_MOST_NAMED = 12
_DOTTED = ' stroke-dasharray="1 10"'
_PART_KEY = '<span><i class="part"></i>in part or damped</span>'


class Stretch(Frozen):
    """Layers that are visited one after another."""

    start: int = Field(ge=0, description="First layer.")
    stop: int = Field(ge=0, description="The layer after the last one.")
    source: str = Field(
        default="", description="Checkpoints that they come from; empty if there is only one."
    )
    variant: str = Field(
        default="", description="How they run, in words, if not whole; for example `attention alone`."
    )


class PathDiagram(Frozen):
    """The path of a forward pass."""

    stretches: tuple[Stretch, ...] = Field(description="What is visited, in order.")
    n_layers: int = Field(ge=1, description="Layers of the source, or of the deepest one.")

    @property
    def visits(self) -> int:
        """Number of layers of a forward pass."""
        return sum(s.stop - s.start for s in self.stretches)

    def words(self) -> str:
        """The path in words, the text alternative of the diagram."""
        order = _listed([_range(s) for s in self.stretches])
        again = _listed([f"{_span(a, b)} {_times(n)}" for a, b, n in self._counted() if n > 1], "no layer")
        absent = _listed([_span(a, b) for a, b, n in self._counted() if n == 0], "none")
        text = f"A forward pass visits {self.visits:,} layers, in this order: {order}."
        if len({s.source for s in self.stretches}) > 1:
            return text
        return f"{text} Repeated: {again}. Left out, of {self.n_layers}: {absent}."

    def _counted(self) -> Iterator[tuple[int, int, int]]:
        """Ranges of layers with the same number of visits."""
        counts = Counter(layer for s in self.stretches for layer in range(s.start, s.stop))
        for number, group in groupby(range(self.n_layers), key=lambda layer: counts[layer]):
            layers = list(group)
            yield layers[0], layers[-1] + 1, number

    def parts(self) -> Iterator[tuple[int, int, int, bool]]:
        """Step, first layer, layer after the last, and whether these layers were visited before."""
        visited: set[tuple[str, int]] = set()
        step = 0
        for s in self.stretches:
            steps = [((s.source, layer) in visited, layer) for layer in range(s.start, s.stop)]
            for again, group in groupby(steps, key=lambda visit: visit[0]):
                run = [layer for _, layer in group]
                yield step, run[0], run[-1] + 1, again
                step += len(run)
            visited |= {(s.source, layer) for _, layer in steps}


def diagram_of(
    candidate: CandidateRecord, base_layers: int | None, recipe: Recipe | None
) -> PathDiagram | None:
    """The path of a candidate; None if its record and recipe do not say it."""
    if candidate.layer_path is not None:
        stretches = tuple(_stretches(candidate.layer_path))
        return PathDiagram(
            stretches=stretches, n_layers=max([base_layers or 1, *(s.stop for s in stretches)])
        )
    slices = _slices(recipe) if recipe is not None else ()
    if slices:
        one = len({s.source for s in slices}) == 1
        stretches = tuple(s.model_copy(update={"source": ""}) if one else s for s in slices)
        return PathDiagram(stretches=stretches, n_layers=max(1, *(s.stop for s in stretches)))
    if not candidate.layers:
        return None
    return PathDiagram(stretches=(Stretch(start=0, stop=candidate.layers),), n_layers=candidate.layers)


def _stretches(path: Layers) -> Iterator[Stretch]:
    for start, stop, variant in variant_runs(path):
        yield Stretch(start=start, stop=stop, variant=variant.words)


def _slices(recipe: Recipe) -> tuple[Stretch, ...]:
    """The slices of a recipe's last stage; empty if it merges whole checkpoints."""
    if not recipe.ordered:
        return ()
    module = recipe.ordered[-1].modules[0]
    return tuple(
        Stretch(
            start=slice_.inputs[0].layers[0],
            stop=slice_.inputs[0].layers[1],
            source=" + ".join(dict.fromkeys(str(i.model) for i in slice_.inputs)),
        )
        for slice_ in module.slices
        if slice_.inputs[0].layers is not None
    )


def diagram_html(diagram: PathDiagram, colours: dict[str, str]) -> str:
    """The diagram: layers upwards, steps of a forward pass to the right; repeated layers in another colour and thicker.

    Visits that are not whole are dotted.
    """
    picture = base64.b64encode(_svg(diagram, colours).encode()).decode()
    words = escape(line(diagram.words(), 600), quote=True)
    return (
        f"<style>{_CSS % colours}</style>"
        f'<div class="mb-path"><span class="mb-y mb-top">{diagram.n_layers}</span><span class="mb-y">0</span>'
        f'<div class="mb-plot">{_bands(diagram)}<img alt="{words}" src="data:image/svg+xml;base64,{picture}">'
        f"{_labels(diagram)}</div></div>"
        f'<div class="mb-axis"><span>layer ↑, step of the forward pass →</span><span>{diagram.visits:,} steps</span></div>'
        '<div class="mb-key"><span><i class="first"></i>first visit</span><span><i class="again"></i>visited again</span>'
        '<span><i class="out"></i>left out</span>'
        f"{_PART_KEY if any(s.variant for s in diagram.stretches) else ''}</div>"
    )


def _svg(diagram: PathDiagram, colours: dict[str, str]) -> str:
    """The lines alone, stretched to the size of the plot; labels are HTML, so that they keep their size."""
    width, height = max(1, diagram.visits), diagram.n_layers
    style = {
        False: f'stroke="{colours["accent"]}" stroke-width="3"',
        True: f'stroke="{colours["worse"]}" stroke-width="7"',
    }
    jump = f'stroke="{colours["faint"]}" stroke-width="1.2" stroke-dasharray="3 4"'
    parts = list(diagram.parts())
    in_part = _steps_in_part(diagram)
    shapes: list[str] = []
    if len(parts) > _MOST_LINES:
        points = " ".join(f"{step},{height - a} {step + b - a},{height - b}" for step, a, b, _ in parts)
        shapes.append(f'<polyline points="{points}" {style[False]}/>')
    else:
        shapes += [
            f'<line x1="{step}" y1="{height - before}" x2="{step}" y2="{height - a}" {jump}/>'
            for (_, _, before, _), (step, a, _, _) in pairwise(parts)
            if before != a
        ]
        shapes += [
            f'<line x1="{step}" y1="{height - a}" x2="{step + b - a}" y2="{height - b}" {style[again]}{_DOTTED if step in in_part else ""}/>'
            for step, a, b, again in parts
        ]
    shapes = [shape.replace("/>", ' vector-effect="non-scaling-stroke"/>') for shape in shapes]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" preserveAspectRatio="none" '
        f'fill="none" stroke-linecap="round">{"".join(shapes)}</svg>'
    )


def _steps_in_part(diagram: PathDiagram) -> set[int]:
    """Steps whose visits are damped, or of attention or MLP alone."""
    steps: set[int] = set()
    step = 0
    for s in diagram.stretches:
        after = step + s.stop - s.start
        steps |= set(range(step, after)) if s.variant else set()
        step = after
    return steps


def _bands(diagram: PathDiagram) -> str:
    """A band for every range of layers that is never visited."""
    if len({s.source for s in diagram.stretches}) > 1:
        return ""
    absent = [(a, b) for a, b, number in diagram._counted() if number == 0][:_MOST_LINES]
    n = diagram.n_layers
    return "".join(
        f'<span class="mb-out" style="bottom:{100 * a / n:.3f}%;height:{100 * (b - a) / n:.3f}%"></span>'
        for a, b in absent
    )


def _labels(diagram: PathDiagram) -> str:
    """The name of every stretch beside its line: to the right of it, or to the left where the line ends."""
    if len(diagram.stretches) > _MOST_LABELS:
        return ""
    texts, step = [], 0
    for s in diagram.stretches:
        across = 100 * (step + (s.stop - s.start) / 2) / max(1, diagram.visits)
        up = 100 * (s.start + s.stop) / 2 / diagram.n_layers
        place = (
            f"right:calc({100 - across:.2f}% + 12px);bottom:calc({up:.2f}% + 4px)"
            if across > 55
            else f"left:calc({across:.2f}% + 12px);bottom:calc({up:.2f}% - 22px)"
        )
        texts.append(f'<span class="mb-name" style="{place}">{escape(line(_range(s), 48))}</span>')
        step += s.stop - s.start
    return "".join(texts)


def _range(s: Stretch) -> str:
    source = f" of {s.source}" if s.source else ""
    return _span(s.start, s.stop) + source + (f" ({s.variant})" if s.variant else "")


def _span(a: int, b: int) -> str:
    return f"[{a}, {b})"


def _times(number: int) -> str:
    return "twice" if number == 2 else f"{number} times"


def _listed(texts: Sequence[str], none: str = "nothing") -> str:
    if not texts:
        return none
    more = f" and {len(texts) - _MOST_NAMED} more" if len(texts) > _MOST_NAMED else ""
    return ", ".join(texts[:_MOST_NAMED]) + more


_CSS = """
.mb-path{position:relative;height:210px;margin:12px 4px 0 34px;color:%(ink)s}
.mb-plot{position:absolute;inset:0;border-left:1px solid %(edge)s;border-bottom:1px solid %(edge)s}
.mb-plot img{position:absolute;inset:0;width:100%%;height:100%%;max-width:none}
.mb-name{position:absolute;font-size:13px;white-space:nowrap;background:%(paper)s;padding:0 3px;border-radius:3px}
.mb-y{position:absolute;bottom:-8px;right:calc(100%% + 8px);font-size:12px;line-height:16px;color:%(faint)s}
.mb-y.mb-top{bottom:calc(100%% - 8px)}
.mb-out{position:absolute;left:0;right:0;background:repeating-linear-gradient(45deg,%(grid)s 0 4px,transparent 4px 8px)}
.mb-axis{display:flex;justify-content:space-between;flex-wrap:wrap;gap:0 16px;color:%(faint)s;font-size:12.5px;margin:4px 4px 0 34px}
.mb-key{display:flex;gap:18px;flex-wrap:wrap;font-size:13px;color:%(ink)s;margin:6px 4px 0 34px}
.mb-key span{display:flex;align-items:center;gap:7px}
.mb-key i{display:inline-block;width:26px;height:3px;border-radius:3px;background:%(accent)s}
.mb-key i.again{height:7px;background:%(worse)s}
.mb-key i.part{background:repeating-linear-gradient(90deg,%(worse)s 0 4px,transparent 4px 9px);height:5px}
.mb-key i.out{height:12px;background:repeating-linear-gradient(45deg,%(grid)s 0 4px,transparent 4px 8px);border:1px solid %(edge)s}
"""

"""Writes a merge search's folder: the winner's recipe, tables as text, trials as CSV, pictures as PNG and as one page."""

from __future__ import annotations

import csv
from pathlib import Path

from orchestrator.charts import Theme, write_image, write_page
from orchestrator.charts.merge_images import merge_pictures
from orchestrator.display.text_safety import cell
from orchestrator.plan.candidates import absolute_place
from orchestrator.search.merges.search_file import SearchFile
from orchestrator.search.merges.tables import merge_search_text
from orchestrator.store.merge_report import SearchView


def write_merge_search(file: SearchFile, view: SearchView, folder: Path) -> list[Path]:
    """Write all files and return their paths, the winner's recipe first."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [write_winner(file, view, folder)] if view.report.winner is not None else []
    text = merge_search_text(view)
    pictures = merge_pictures(view, Theme.LIGHT)
    report = folder / "report.txt"
    report.write_text(text, encoding="utf-8")
    figures = [figure() for _, _, figure in pictures]
    files += [write_page(f"Search {view.report.name}", [text], figures, folder / "search.html"), report]
    files += [write_image(image(), folder / f"{name}.png") for name, image, _ in pictures]
    files.append(_trials_csv(view, folder / "trials.csv"))
    data = folder / "report.json"
    data.write_text(view.model_dump_json(indent=1), encoding="utf-8")
    return [*files, data]


def write_winner(file: SearchFile, view: SearchView, folder: Path) -> Path:
    """Write the winner's recipe with the checkpoints' absolute places, so that `mergeboard build` finds them."""
    assert view.report.winner is not None
    recipe = file.recipe(view.trials[view.report.winner].parameters, view.report.layers)
    given = file.search.sources
    places = {
        str(source): absolute_place(given.get(str(source), source.name), Path(file.folder))
        for source in recipe.sources
    }
    path = folder / "winner.yaml"
    path.write_text(recipe.with_sources(places).canonical_text, encoding="utf-8")
    return path


def _trials_csv(view: SearchView, path: Path) -> Path:
    names = [parameter.name for parameter in view.report.parameters]
    objectives = [objective.name for objective in view.report.objectives]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        header = ["trial", "method", "state", *objectives, "together", "cost_s", *names, "recipe", "message"]
        writer.writerow(list(map(cell, header)))
        for trial in view.trials:
            values = trial.objectives or ("",) * len(objectives)
            row = [trial.number, trial.arm, trial.state, *values, view.value(trial), trial.cost_s]
            row += [trial.parameters[name] for name in names]
            writer.writerow(list(map(cell, [*row, trial.recipe_digest, trial.message])))
    return path

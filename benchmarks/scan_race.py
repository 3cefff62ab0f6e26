"""What a race saves of a scan, and whether it shows the same: whole scan and race in one run, on the same machine.

    python -m benchmarks.scan_race CHECKPOINT [-- options of `mergeboard scan`]

`mergeboard scan` and `mergeboard scan --race` one after another, each in a process and with a home of its own: seconds from start to end,
with the engines' starts, search and confirmation, and questions. The planted circuit in 20 seeds is
`pytest -m slow -s tests/orchestrator/search/test_planted.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

TOP = 10
PRINTED = ("seconds", "conclusion")


def main() -> None:
    """Run both sides."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("options", nargs="*", help="Further options of `mergeboard scan`, after --.")
    options = parser.parse_args()
    race_scan(options.checkpoint, options.options)


def race_scan(checkpoint: str, options: list[str]) -> None:
    """Both commands, each from an empty home."""
    results: dict[str, dict[str, Any]] = {}
    for side, more in (("whole", []), ("race", ["--race"])):
        with tempfile.TemporaryDirectory() as home:
            command = [sys.executable, "-c", "from orchestrator.cli import main; main()", "scan", checkpoint]
            environment = os.environ | {"MERGEBOARD_HOME": home}
            environment.pop("MERGEBOARD_DATABASE_URL", None)
            begun = time.monotonic()
            done = subprocess.run(
                [*command, *options, *more, "--json", "--quiet"],
                env=environment, check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            seconds = time.monotonic() - begun
            report = json.loads(done.stdout)
            results[side] = {
                "seconds": round(seconds, 1),
                "best": [path["layers"] for path in report["ranking"]["paths"][:TOP]],
                "conclusion": report["conclusion"],
                "race": race_facts(report),
            }
            shown = {key: results[side][key] for key in PRINTED}
            print(side, json.dumps(shown | (results[side]["race"] or {}).get("shown", {})), flush=True)
    best = results["whole"]["best"]
    shared = sum(path in results["race"]["best"] for path in best)
    left = sum(path in results["race"]["race"]["gone"] for path in best)
    print(
        json.dumps(
            {
                "seconds_share": round(results["race"]["seconds"] / results["whole"]["seconds"], 3),
                "shared_of_best": f"{shared} of {len(best)}",
                "best_that_left": f"{left} of {len(best)}",
            }
        )
    )


def race_facts(report: dict[str, Any]) -> dict[str, Any] | None:
    """What the race asked."""
    race = report.get("race")
    if race is None:
        return None
    return {
        "shown": {
            "questions": round(race["asked"] / race["whole"], 3),
            "paths": [len(look["paths"]) for look in race["looks"]],
            "left": [sum(path["leaves"] for path in look["paths"]) for look in race["looks"]],
        },
        "gone": [path["layers"] for look in race["looks"] for path in look["paths"] if path["leaves"]],
    }


if __name__ == "__main__":
    main()

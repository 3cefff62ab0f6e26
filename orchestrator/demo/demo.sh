#!/usr/bin/env bash
# demo.sh BIN: the demo sweep, then its table, its model-card metadata, its report, and where the dashboard is.
set -euo pipefail
bin=$1
"$bin/mergeboard" run orchestrator/demo/sweep.yaml
home=${MERGEBOARD_HOME:-$("$bin/python" -c 'from orchestrator.settings import Settings; print(Settings.from_environment().home)')}
run=$("$bin/mergeboard" status --json | "$bin/python" -c 'import json, sys; print(json.load(sys.stdin)[0]["id"])')
card="$home/demo-card.yaml"
report="$home/demo-report.html"
"$bin/mergeboard" card "slerp-with-noise" >"$card"
echo
echo "Model-card metadata of slerp-with-noise (smoke scores: marked as such, refused by --update):"
sed -n 1,14p "$card"
echo "  ... $(wc -l <"$card") lines"
echo
echo "Verdict:"
"$bin/mergeboard" report "$run" --out "$report" --quiet
echo
echo "Table:      $bin/mergeboard compare --run $run"
echo "Report:     $report     (one file to open or to send)"
echo "Card:       $card"
echo "Dashboard:  $bin/mergeboard dashboard     (then http://127.0.0.1:8501)"

"""Layer path search: measure layer paths with probes, rank them, confirm the best on disjoint items.

request.py        the options of a scan and the two sweeps that it runs
probe_answers.py  read a run's probe results from the store
grid_scan.py      search, ranking and confirmation over a grid of layer paths
race.py           rounds of a search whose paths leave when they cannot be among the best any more
beam.py           beam search beyond the grid, followed by successive halving
report.py         the result as one record
tables.py         the result as tables
files.py          the report, its tables and its charts as files
merges/           search over the numbers of a merge
"""

from orchestrator.search.grid_scan import run_scan
from orchestrator.search.report import ScanReport
from orchestrator.search.request import ScanRequest

__all__ = ["ScanReport", "ScanRequest", "run_scan"]

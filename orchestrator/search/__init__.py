"""The brain scan: thousands of layer paths asked the same probes, the best of them asked again, and an honest end.

request.py    what is asked for, and the two sweeps that follow from it
reading.py    what the store holds of a run's probes
scan.py       search, ranking, confirmation, in that order
report.py     all of it as one record
files.py      the report, its tables and its pictures as files
"""

from orchestrator.search.grid_scan import run_scan
from orchestrator.search.report import ScanReport
from orchestrator.search.request import ScanRequest

__all__ = ["ScanReport", "ScanRequest", "run_scan"]

"""Reads result files of other tools: all versions of lm-eval and both leaderboards, with their samples."""

from evals.results_files.assemble import assemble_run
from evals.results_files.find import (
    definition_of,
    import_result,
    is_alone,
    result_files,
    samples_of,
    usable_samples,
    with_samples,
)
from evals.results_files.imported_run import (
    FileFormat,
    ImportedBenchmark,
    ImportedRun,
    ResultFile,
    TaskResult,
)
from evals.results_files.parse import parse_results, read_result_file
from evals.results_files.samples import read_logged_samples

__all__ = [
    "FileFormat",
    "ImportedBenchmark",
    "ImportedRun",
    "ResultFile",
    "TaskResult",
    "assemble_run",
    "definition_of",
    "import_result",
    "is_alone",
    "parse_results",
    "read_logged_samples",
    "read_result_file",
    "result_files",
    "samples_of",
    "usable_samples",
    "with_samples",
]

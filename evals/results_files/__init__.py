"""Result files made elsewhere: lm-eval's of every age, both leaderboards', with their samples."""

from evals.results_files.assemble import imported
from evals.results_files.find import (
    import_result,
    import_results,
    is_alone,
    one_line,
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
    "import_result",
    "import_results",
    "imported",
    "is_alone",
    "one_line",
    "parse_results",
    "read_logged_samples",
    "read_result_file",
    "result_files",
    "samples_of",
    "usable_samples",
    "with_samples",
]

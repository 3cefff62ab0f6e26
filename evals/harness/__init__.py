"""lm-eval: tasks in, typed scores and samples out. The only importer of lm-eval beside the tasks that it loads."""

from evals.harness.evaluate import evaluate, help_out
from evals.harness.progress import Progress
from evals.harness.tokenization import resolve_chat_template

__all__ = ["Progress", "evaluate", "help_out", "resolve_chat_template"]

"""Runs lm-eval's tasks on an engine and returns typed scores and samples. Only this package and evals.tasks import lm-eval."""

from evals.harness.evaluate import Until, evaluate, evaluate_until_decided, help_out
from evals.harness.progress import Progress
from evals.harness.tokenization import resolve_chat_template

__all__ = [
    "Progress",
    "Until",
    "evaluate",
    "evaluate_until_decided",
    "help_out",
    "resolve_chat_template",
]

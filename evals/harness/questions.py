"""The questions of a benchmark's tasks, as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lm_eval.api.task import Task
from lm_eval.utils import handle_non_serializable, hash_string

from evals.documents import MAX_QUESTION, Document


def questions(tasks: Mapping[str, Task]) -> Iterator[Document]:
    """Every document of the tasks in lm-eval's order, with lm-eval's numbers."""
    for name, task in tasks.items():
        for doc_id, doc in enumerate(task.eval_docs):
            rendered = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
            yield Document(
                subset=name,
                doc_id=doc_id,
                doc_hash=hash_string(rendered)[:16],
                question=_question_text(task, doc, rendered),
            )


def _question_text(task: Task, doc: Any, rendered: str) -> str:
    """The task's text of the question, or the rendered document if the text consists of the choices."""
    text = None if getattr(task, "multiple_input", 0) else task.doc_to_text(doc)
    question = text if isinstance(text, str) and text.strip() else rendered
    return question[:MAX_QUESTION]

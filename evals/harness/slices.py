"""Asks the documents of an evaluation slice after slice, and stops when a comparison with a base is decided.

All requests are rendered first, as for a whole evaluation: few-shot examples are drawn document after document, so that only the whole
list has the same prompts. Then the documents are asked in their random order (`evals.stats.document_order`), and a look is taken at the
fixed numbers of documents of a `LookPlan`. Answers go to the journal of the whole evaluation, which replays them when it is asked for.
"""

from __future__ import annotations

import copy
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from lm_eval.api.instance import Instance
from lm_eval.api.task import Task
from lm_eval.utils import handle_non_serializable, hash_string

from evals.errors import EvaluationError
from evals.harness.collect import collect_samples
from evals.harness.written import Written
from evals.scores import Sample
from evals.stats.candidate_race import part_answers, part_of_documents
from evals.stats.document_order import document_order
from evals.stats.sequence import LookPlan, LookSequence, first_full, sequence_of, take_look
from evals.stats.stopping import Decision, InterimLook
from evals.suite import Benchmark

Answer = TypeVar("Answer")
Key = tuple[str, int]


class DecidedEarly(Exception):
    """Raised out of lm-eval's loop when no further document is asked: the comparison is decided, or it was asked for a part alone."""


class Slices:
    """The slices of one evaluation, and the looks after them."""

    def __init__(
        self,
        plan: LookPlan,
        benchmark: Benchmark,
        tasks: Mapping[str, Task],
        base: Sequence[Sample],
        part: float | None = None,
    ) -> None:
        """`base` holds the base's answers to the same documents. With `part`, that share of the documents is asked and none decided."""
        self._plan = plan
        self._part = part
        self._benchmark = benchmark
        self._tasks = tasks
        self._base = {(s.subset, s.doc_id): s for s in base}
        self._asked: dict[Key, Sample] = {}
        self._looks: list[InterimLook] = []
        self._n_whole = 0
        # Metrics that exist only over all documents (F1, BLEU) and perplexities cannot be looked at in parts.
        self._possible = (
            not benchmark.lower_is_better
            and benchmark.formula is None
            and len(set(map(_request_type, tasks.values()))) == 1
        )

    @property
    def sequence(self) -> LookSequence:
        """The looks so far, with the scores on the documents that were asked; of a part the answers instead."""
        if self._part is not None:
            base, asked = list(self._base.values()), list(self._asked.values())
            part = part_answers(self._benchmark, base, asked, self._part, self._plan.order_seed)
            return LookSequence(plan=self._plan, n_whole=self._n_whole, looks=(), part=part)
        asked = list(self._asked.values()) if self._looks else []
        base = [self._base[key] for key in self._asked] if self._looks else []
        n_whole = max(1, self._n_whole)
        return sequence_of(self._plan, self._looks, n_whole, base, asked, self._benchmark)

    def most_asked(self, n_requests: int) -> int:
        """How many of these requests are asked at most; of a part about its share."""
        return n_requests if self._part is None else math.ceil(self._part * n_requests)

    def answer(
        self,
        requests: Sequence[Instance],
        ask: Callable[[list[Instance]], list[Answer]],
        written: Mapping[Key, Written],
    ) -> list[Answer]:
        """Ask `requests`, a list that lm-eval made, in slices; raises DecidedEarly when the rule has decided.

        `written` is read after each slice: the lengths of the generated answers so far.
        """
        by_document: dict[Key, list[int]] = defaultdict(list)
        for position, request in enumerate(requests):
            by_document[request.task_name, request.doc_id].append(position)
        keys = sorted(by_document)
        if self._part is not None:
            self._ask_part(requests, ask, written, by_document, self._part)
            raise DecidedEarly
        order = [keys[place] for place in document_order(keys, self._plan.order_seed)]
        self._n_whole = len(order)
        answers: dict[int, Answer] = {}
        begin = 0
        looks = self._plan.looks(len(order), first_full([subset for subset, _ in order]))
        for end in looks if self._possible else (len(order),):
            documents = order[begin:end]
            # In the list's order, so that requests that share a prompt stand together.
            positions = sorted(position for key in documents for position in by_document[key])
            answers.update(zip(positions, ask([requests[p] for p in positions]), strict=True))
            begin = end
            if self._possible:
                self._add(requests, answers, {key: by_document[key] for key in documents}, written)
            if self._possible and self._look() is not Decision.OPEN and end < len(order):
                raise DecidedEarly
        return [answers[position] for position in range(len(requests))]

    def _ask_part(
        self,
        requests: Sequence[Instance],
        ask: Callable[[list[Instance]], list[Answer]],
        written: Mapping[Key, Written],
        by_document: Mapping[Key, Sequence[int]],
        share: float,
    ) -> None:
        """Ask a share of the documents."""
        keys = sorted(by_document)
        self._n_whole = len(keys)
        self._require_parts()
        if len(keys) != len(self._base):
            raise EvaluationError(
                f"The base answered {len(self._base):,} documents of {self._benchmark.title}, and there are {len(keys):,}: evaluate the "
                "base again with the same data."
            )
        documents = [keys[item] for item in part_of_documents(keys, share, self._plan.order_seed)]
        positions = sorted(position for key in documents for position in by_document[key])
        answers = dict(zip(positions, ask([requests[p] for p in positions]), strict=True))
        self._add(requests, answers, {key: by_document[key] for key in documents}, written)
        self._require_parts()

    def _require_parts(self) -> None:
        if not self._possible:
            raise EvaluationError(
                f"{self._benchmark.title} cannot be asked in parts (its metric is over all documents, or it mixes generated and scored "
                "answers): leave it out of the sweep, or leave out `decide.race`."
            )

    def _add(
        self,
        requests: Sequence[Instance],
        answers: Mapping[int, Answer],
        documents: Mapping[Key, Sequence[int]],
        written: Mapping[Key, Written],
    ) -> None:
        """Score the documents of one slice as lm-eval does."""
        by_task: dict[str, list[list[Instance]]] = defaultdict(list)
        for (name, _), positions in documents.items():
            replies: dict[int, list[Answer]] = defaultdict(list)
            instances: dict[int, Instance] = {}
            for position in positions:  # a request that is repeated stands there several times
                instances[id(requests[position])] = requests[position]
                replies[id(requests[position])].append(answers[position])
            by_task[name].append([_answered(i, replies[key]) for key, i in instances.items()])
        for name, answered in by_task.items():
            logged = logged_documents(self._tasks[name], answered)
            for sample in collect_samples(self._benchmark, self._tasks[name], logged, written, {}):
                # The base's clusters are those of the whole benchmark.
                cluster = self._base_of(sample).cluster
                self._asked[sample.subset, sample.doc_id] = sample.model_copy(update={"cluster": cluster})
        if any(m not in s.metrics for s in self._asked.values() for m in self._benchmark.metrics):
            self._possible = False

    def _base_of(self, sample: Sample) -> Sample:
        base = self._base.get((sample.subset, sample.doc_id))
        if base is None or base.doc_hash != sample.doc_hash:
            raise EvaluationError(
                f"Document {sample.doc_id} of {sample.subset} is not among the base's answers: evaluate the base again with the same data."
            )
        return base

    def _look(self) -> Decision:
        if not self._possible:
            return Decision.OPEN
        base = [self._base[key] for key in self._asked]
        taken = take_look(base, list(self._asked.values()), self._benchmark, self._n_whole, self._plan.rule)
        self._looks.append(taken)
        return taken.decision


def logged_documents(task: Task, documents: Sequence[Sequence[Instance]]) -> list[dict[str, Any]]:
    """lm-eval's log of answered documents, an entry for each filter, as `lm_eval.evaluator.evaluate` makes it."""
    for ensemble in task._filters:
        ensemble.apply([instance for instances in documents for instance in instances])
    return [entry for instances in documents for entry in _logged(task, instances)]


def _logged(task: Task, instances: Sequence[Instance]) -> Iterator[dict[str, Any]]:
    requests = sorted(instances, key=lambda instance: instance.idx)
    first = requests[0]
    target = task.doc_to_target(first.doc)
    text = json.dumps(first.doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
    for key in first.filtered_resps:
        metrics = task.process_results(first.doc, [r.filtered_resps[key] for r in requests])
        yield {
            "doc_id": first.doc_id,
            "doc": first.doc,
            "target": target,
            "arguments": [r.args for r in requests],
            "resps": [r.resps for r in requests],
            "filtered_resps": [r.filtered_resps[key] for r in requests],
            "filter": key,
            "metrics": list(metrics),
            "doc_hash": hash_string(text),
            "prompt_hash": hash_string(first.arguments[0]),
            **metrics,
        }


def _answered(instance: Instance, replies: Iterable[Any]) -> Instance:
    """A copy with answers: lm-eval itself fills the original if the whole benchmark is asked."""
    answered = copy.copy(instance)
    answered.resps = list(replies)
    answered.filtered_resps = {}
    return answered


def _request_type(task: Task) -> str:
    kind = str(task.OUTPUT_TYPE)
    return "loglikelihood" if kind == "multiple_choice" else kind

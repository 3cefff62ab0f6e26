"""Job page: description, attempts with logs, hardware, outcome, and the command that repeats the job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import streamlit as st

from dashboard import address, data, widgets
from dashboard.address import View
from dashboard.components.code import show_code, show_command
from dashboard.components.rows import show_table
from dashboard.logs import log_tail
from dashboard.pages.candidates import requested_candidate
from dashboard.repeat import base_of, repeat_command
from evals.claims.facts import NOT_RECORDED
from orchestrator.display.format import duration, moment, parameters, size
from orchestrator.display.text_safety import escaped, line, plain
from orchestrator.plan.job import BuildJob, EvalJob, JobKind
from orchestrator.provenance import Hardware
from orchestrator.store.pages import JobDetail, JobRow, JobState, Pages
from orchestrator.store.records import (
    AttemptRecord,
    AttemptState,
    BuildOutcome,
    EarlyOutcome,
    EvalOutcome,
    RunRecord,
    Success,
)

_PER_PAGE = 15
_MOST_REASONS = 40
_REFRESH_S = 3.0
STATES = {
    JobState.DONE: "✓ done",
    JobState.RUNNING: "● running",
    JobState.FAILED: "✗ failed",
    JobState.WAITING: "○ waiting",
}


def show(pages: Pages, run: RunRecord | None) -> None:
    """Draw the page."""
    widgets.heading("Job", line(run.name, 100) if run else "")
    if run is None:
        widgets.show_message(
            "No runs yet", "There are no jobs to look at.", command="mergeboard run SWEEP.yaml"
        )
        return
    digest = address.value("job")
    if digest:
        st.fragment(_detail, run_every=_REFRESH_S)(pages, run, digest)
    _list(pages, run, opened=bool(digest))


def _list(pages: Pages, run: RunRecord, *, opened: bool) -> None:
    """Draw the list of the run's jobs, or of one recipe's if the address names one."""
    recipe = requested_candidate(pages, run, "of")
    if recipe is None and address.value("of"):
        address.say_unknown("recipe", address.value("of"), "every job of the run")
    st.subheader(f"Jobs of {escaped(recipe.name, 90)}" if recipe else "Jobs of this run", anchor=False)
    if recipe is not None:
        address.link(View.JOB, "All jobs of this run", run=run.id)
    names = ["", *(s.value for s in JobState)]
    state = address.segments(
        "State",
        "state",
        names,
        label_of=lambda s: STATES[JobState(s)] if s else "all",
        resets=("jobs",),
    )
    job_state = JobState(state) if state else None
    position = recipe.position if recipe is not None else None
    total, _ = data.live(pages.job_list, run.id, state=job_state, position=position, limit=1)
    first = address.pager("jobs", total, _PER_PAGE, "jobs" if total != 1 else "job")
    _, rows = data.live(
        pages.job_list, run.id, state=job_state, position=position, limit=_PER_PAGE, offset=first
    )
    if not rows:
        st.caption("No job of this run is in this state.")
        return
    why = failure_messages(pages, run, rows)
    titles = ["Job", "State", *(["Why"] if why else []), "Digest"]

    def open_job(digest: str) -> None:
        address.put(job=digest)

    show_table(
        {
            r.digest: [job_name(r), STATES[r.state], *([why.get(r.digest, "")] if why else []), r.digest]
            for r in rows
        },
        titles,
        key="jobs_table",
        name="Jobs",
        opens="Show its attempts, logs and results",
        on_open=open_job,
        selected=address.value("job") or None,
        wide=("Digest",),
        long=("Why",),
    )
    if not opened:
        st.caption("Select a job to see its attempts, logs and results.")


def failure_messages(pages: Pages, run: RunRecord, rows: Sequence[JobRow]) -> dict[str, str]:
    """Why the failed jobs among these failed, one line each, by digest."""
    failed = [row.digest for row in rows if row.state is JobState.FAILED]
    attempts = {digest: data.live(pages.attempts, digest) for digest in failed[:_MOST_REASONS]}
    return {digest: line(tries[-1].message or "", 300) for digest, tries in attempts.items() if tries}


def job_name(row: JobRow) -> str:
    """Display text of what a job does."""
    name = line(row.candidate or "?", 60)
    return f"build {name}" if row.kind is JobKind.BUILD else f"{name}: {row.suite} {row.benchmark}"


def _detail(pages: Pages, run: RunRecord, digest: str) -> None:
    detail = data.live(pages.job_detail, digest, run.id)
    if detail is None:
        widgets.show_message("No such job", f"This store has no job {line(digest, 40)}; pick one below.")
        return
    attempts = data.live(pages.attempts, digest)
    outcome = data.live(pages.outcomes, [digest]).get(digest)
    who = escaped(detail.candidates[0].name if detail.candidates else "?", 70)
    job = detail.job
    what = (
        f"Build of {who}"
        if isinstance(job, BuildJob)
        else f"{escaped(job.suite)} {escaped(job.benchmark)} of {who}"
    )
    st.subheader(what, anchor=False)
    _summary(detail, attempts, outcome)
    left, right = st.columns([3, 2])
    with left:
        _attempts(attempts)
        if isinstance(outcome, EvalOutcome):
            _scores(outcome)
        elif isinstance(outcome, EarlyOutcome):
            _early(outcome)
        _repeat(pages, run, detail)
    with right:
        _facts(detail, outcome)
    _provenance(run)


def _summary(detail: JobDetail, attempts: tuple[AttemptRecord, ...], outcome: Success | None) -> None:
    if outcome is not None:
        state = STATES[JobState.DONE]
    elif any(a.state is AttemptState.RUNNING for a in attempts):
        state = STATES[JobState.RUNNING]
    elif attempts and attempts[-1].will_retry is False:
        state = STATES[JobState.FAILED]
    else:
        state = STATES[JobState.WAITING]
    shown = st.columns(5)
    shown[0].metric("State", state)
    shown[1].metric("Attempts", f"{len(attempts)}")
    shown[2].metric("Node", escaped(_node(attempts, outcome), 30))
    shown[3].metric("Took", duration(_took(outcome)))
    if isinstance(outcome, EvalOutcome):
        shown[4].metric("Normalized score", f"{outcome.evaluation.result.normalized:.2f}")
    elif isinstance(outcome, EarlyOutcome):
        shown[4].metric(
            "Documents asked", f"{outcome.early.sequence.n:,} of {outcome.early.sequence.n_whole:,}"
        )
    elif isinstance(outcome, BuildOutcome):
        shown[4].metric("Size", size(outcome.size_bytes))
    if isinstance(detail.job, EvalJob) and detail.candidates:
        first = detail.candidates[0]
        if not first.is_base:
            address.link(
                View.COMPARE,
                "Compare with the base",
                run=detail.run_id,
                cand=first.position,
                bench=detail.job.benchmark,
            )


def _node(attempts: tuple[AttemptRecord, ...], outcome: Success | None) -> str:
    if outcome is not None:
        return outcome.hardware.host
    return (attempts[-1].node if attempts else None) or "–"


def _took(outcome: Success | None) -> float | None:
    return None if outcome is None else (outcome.ended_at - outcome.started_at).total_seconds()


def _attempts(attempts: tuple[AttemptRecord, ...]) -> None:
    st.markdown("**Attempts**")
    if not attempts:
        st.caption("Nobody has tried it yet.")
        return
    widgets.table([_attempt_cells(a) for a in attempts], "attempts", name="Attempts")
    for attempt in reversed(attempts[-3:]):
        tail = attempt.log_tail or log_tail(data.settings().home, attempt.id)
        if attempt.message:
            st.text(f"Attempt {attempt.number}: {plain(attempt.message, 1000)}")
        if tail:
            with st.expander(f"End of the log of attempt {attempt.number}", expanded=attempt is attempts[-1]):
                show_code(tail, height=260)


def _attempt_cells(attempt: AttemptRecord) -> dict[str, Any]:
    return {
        "Try": attempt.number,
        "State": attempt.state.value,
        "Node": line(attempt.node or "–", 40),
        "Worker": line(attempt.worker or "–", 40),
        "Started": moment(attempt.started_at),
        "Took": duration(_between(attempt.started_at, attempt.ended_at)),
        "Failure": (attempt.failure_class.value if attempt.failure_class else "").replace("_", " "),
        "Run": attempt.run_id,
        "Id": attempt.id,
    }


def _between(start: datetime, end: datetime | None) -> float | None:
    return None if end is None else (end - start).total_seconds()


def _scores(outcome: EvalOutcome) -> None:
    st.markdown("**Scores**")
    rows = [
        {
            "Subset": line(s.subset, 80),
            "Metric": line(s.metric, 60),
            "Value": round(s.value, 4),
            "Stderr": None if s.stderr is None else round(s.stderr, 4),
            "n": s.n,
            "of": s.n_full,
            "Lower bound": round(s.lower_bound, 4),
            "Alarms": ", ".join(f"{a.kind} {a.share:.0%}" for a in s.alarms),
        }
        for s in outcome.evaluation.scores
    ]
    widgets.table(rows, "job_scores", height=widgets.table_height(min(len(rows), 10)), name="Scores")
    if outcome.evaluation.result.remark:
        st.caption(escaped(outcome.evaluation.result.remark, 400))


def _early(outcome: EarlyOutcome) -> None:
    """The decision instead of scores: an evaluation that stopped early has none."""
    st.markdown("**Stopped early**")
    sequence = outcome.early.sequence
    st.text(f"{sequence.text[0].upper()}{sequence.text[1:]}.")
    if sequence.score is not None:
        span = sequence.score.interval
        st.caption(
            f"Normalized score on these documents {sequence.score.value:.2f}, interval {span.low:.2f} to {span.high:.2f} (valid at all times); "
            "not the benchmark's score."
        )


def _facts(detail: JobDetail, outcome: Success | None) -> None:
    st.markdown("**What it is**")
    facts = _build_facts(detail.job) if isinstance(detail.job, BuildJob) else _eval_facts(detail.job)
    facts["Serves"] = ", ".join(line(c.name, 40) for c in detail.candidates[:5])
    if detail.other_runs:
        facts["Shared with runs"] = ", ".join(detail.other_runs[:5])
    widgets.facts(facts, "job_facts")
    if outcome is not None:
        st.markdown("**Where it ran**")
        widgets.facts(_hardware(outcome.hardware) | _result(outcome), "job_hardware")


def _build_facts(job: BuildJob) -> dict[str, str]:
    return {
        "Digest": job.digest,
        "Sources": ", ".join(
            f"{line(s.name, 60)} ({line(s.place, 60)}, {s.weights_digest})" for s in job.sources
        ),
        "Seed": str(job.seed),
    }


def _eval_facts(job: EvalJob) -> dict[str, str]:
    settings, engine = job.settings, job.engine
    return {
        "Digest": job.digest,
        "Checkpoint": line(
            f"weights loaded into the engine of {job.place.label}" if job.live_merge else job.place.label, 130
        ),
        "Weights": line(job.weights_digest, 80),
        "Layer path": line(",".join(map(str, job.layer_path)), 160)
        if job.layer_path is not None
        else "all layers, once",
        "Engine": f"{engine.kind} {engine.version}, {engine.dtype}",
        "Quantisation": engine.quantization or "none",
        "KV cache": engine.kv_cache_dtype,
        "Tensor parallelism": str(engine.tensor_parallel),
        "Device": engine.device or NOT_RECORDED,
        "Execution mode": engine.execution or NOT_RECORDED,
        "Attention backend": line(engine.attention_backend or NOT_RECORDED, 60),
        "Batch-invariant kernels": {None: NOT_RECORDED, True: "yes", False: "no"}[engine.batch_invariant],
        "Longest sequence": str(engine.max_length or "the checkpoint's own"),
        "Chat template": settings.chat_template.value,
        "Few-shot as turns": "yes" if settings.fewshot_as_multiturn else "no",
        "BOS token": {None: "the tokenizer's default", True: "added", False: "not added"}[
            settings.add_bos_token
        ],
        "Limit": f"first {settings.limit} of each subset" if settings.limit else "none",
        "Seeds": ", ".join(f"{k} {v}" for k, v in settings.seeds.model_dump().items()),
        "Definition": job.benchmark_digest,
        "Data set": line(job.dataset_digest, 80),
        "Scorer": line(job.scorer, 200),
    }


def _hardware(hardware: Hardware) -> dict[str, str]:
    return {
        "Host": line(hardware.host, 80),
        "Processor": f"{line(hardware.cpu, 80)}, {hardware.cpu_count} cores",
        "Memory": size(hardware.memory_bytes),
        "GPUs": ", ".join(line(g, 60) for g in hardware.gpus) or "none",
    }


def _result(outcome: Success) -> dict[str, str]:
    times = {"Started": moment(outcome.started_at), "Ended": moment(outcome.ended_at)}
    if isinstance(outcome, BuildOutcome):
        return times | {
            "Checkpoint": line(outcome.path, 120),
            "Size": size(outcome.size_bytes),
            "Parameters": parameters(outcome.parameters),
            "Layers": str(outcome.layers),
        }
    if isinstance(outcome, EarlyOutcome):
        early = outcome.early
        return times | {
            "Requests": f"{early.n_requests:,}, of which {early.n_replayed:,} from the journal",
            "Evaluating": duration(early.duration_s),
            "Looks": f"{len(early.sequence.looks)}",
        }
    evaluation = outcome.evaluation
    return times | {
        "Requests": f"{evaluation.n_requests:,}, of which {evaluation.n_replayed:,} from the journal",
        "Evaluating": duration(evaluation.duration_s),
        "Samples": line(outcome.samples_path, 120),
        "sha256": outcome.samples_sha256,
    }


def _repeat(pages: Pages, run: RunRecord, detail: JobDetail) -> None:
    st.markdown("**The command that repeats it**")
    build = None
    if isinstance(detail.job, EvalJob) and detail.job.live_merge is not None:
        build = detail.job.live_merge.build
    elif isinstance(detail.job, EvalJob) and detail.job.place.artifact is not None:
        build_detail = data.fixed(pages.job_detail, detail.job.place.artifact, detail.run_id)
        build = (
            build_detail.job if build_detail is not None and isinstance(build_detail.job, BuildJob) else None
        )
    candidate = detail.candidates[0] if detail.candidates else None
    command = repeat_command(detail.job, candidate, base_place(pages, run), build)
    if command is None:
        st.caption(
            "No single command can say all that this job depends on; its run goes on, or is repeated, with:"
        )
        command = f"mergeboard resume {run.id}"
    else:
        st.caption(
            "In a home of its own, since a job that is done is not run again. It is the same job, digest and all, as long as "
            "the installed versions are those of the provenance below."
        )
    show_command(command)


def base_place(pages: Pages, run: RunRecord) -> str | None:
    """The resolved place of the run's base; as written in the sweep if the base was not scored."""
    base = data.fixed(pages.base_of, run.id)
    if base is not None:
        _, rows = data.fixed(pages.job_list, run.id, position=base.position, limit=1)
        first = data.fixed(pages.job_detail, rows[0].digest, run.id) if rows else None
        if first is not None and isinstance(first.job, EvalJob) and first.job.place.name is not None:
            return first.job.place.name
    return base_of(run)


def _provenance(run: RunRecord) -> None:
    with st.expander("Provenance of the run"):
        source = run.provenance
        widgets.facts(
            {
                "Run": run.id,
                "Command": line(source.command, 300),
                "Commit": source.commit or "not a checkout",
                "Python": source.python,
                **{name: version for name, version in sorted(source.versions.items())},
                **_hardware(source.hardware),
            },
            "run_provenance",
        )
        st.caption("The sweep file")
        show_code(run.sweep, "yaml", height=260)

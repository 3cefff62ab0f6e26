"""Every command of `mergeboard`: its heading and line in the help, and the function that it is. Nothing is imported here."""

from __future__ import annotations

from orchestrator.cli.lazy import CommandEntry, CommandGroup, Table

COMMANDS: Table = {
    "Plan and run": {
        "doctor": CommandEntry(
            "What this machine or cluster can do, and the command that mends what is missing.",
            "doctor:doctor",
        ),
        "plan": CommandEntry(
            "A sweep, recipe or card: jobs, layers, bytes, cost, what is cached. Touches nothing.",
            "plan:plan",
        ),
        "run": CommandEntry("Build and evaluate a sweep; what is in the store is not run again.", "run:run"),
        "submit": CommandEntry("Hand a sweep to a cluster and print the run's id.", "submit:submit"),
        "status": CommandEntry("List runs, or tell how far one is and what failed.", "status:status"),
        "watch": CommandEntry("Show a run's progress until it ends.", "watch:watch"),
        "cancel": CommandEntry("Stop a run within seconds; what is finished is kept.", "cancel:cancel"),
        "resume": CommandEntry("Go on with a run that was stopped.", "resume:resume"),
    },
    "One checkpoint": {
        "build": CommandEntry("Write one recipe as a checkpoint directory.", "build:build"),
        "eval": CommandEntry("Score one checkpoint, or one layer path of it.", "eval:evaluate"),
        "scan": CommandEntry(
            "Brain scan: run every block of layers twice, ask probes, confirm the best.", "scan:scan"
        ),
        "search": CommandEntry(
            "Search layer paths beyond the scan's grid, or the numbers of a merge.", "search:search"
        ),
    },
    "Results": {
        "compare": CommandEntry(
            "Differences per benchmark with intervals and paired tests.", "compare:compare"
        ),
        "report": CommandEntry(
            "One self-contained page or Markdown about a run, a comparison, a scan or a card.",
            "report_:report",
        ),
        "gate": CommandEntry("GO, NO-GO or INCONCLUSIVE by a policy, as exit code and report.", "gate:gate"),
        "reproduce": CommandEntry("Check a model card claim by claim.", "reproduce:reproduce"),
        "audit": CommandEntry("A board of verdicts on many cards, without running anything.", "audit:audit"),
        "card": CommandEntry("Scores as model-card metadata or as a table.", "card:card"),
        "import": CommandEntry("Import results made elsewhere, or a model card.", "import_:import_path"),
        "export": CommandEntry("Write scores and samples as Parquet or Every Eval Ever.", "export:export"),
        "dashboard": CommandEntry("Open the Streamlit app on the store.", "dashboard:dashboard"),
    },
    "What there is": {
        "suite": CommandGroup(
            "Suites, their benchmarks, and the probes.",
            {
                "list": CommandEntry("List the suites and the set of probes.", "suite:list_suites"),
                "show": CommandEntry("Explain a suite, or list all probes.", "suite:show_suite"),
                "init": CommandEntry("Write a suite of lm-eval tasks as a file to edit.", "suite:init_suite"),
            },
        ),
        "recipe": CommandGroup(
            "The recipes of the catalogue.",
            {
                "list": CommandEntry("List the recipes of the catalogue.", "recipe:list_recipes"),
                "show": CommandEntry(
                    "Print a recipe of the catalogue as mergekit YAML.", "recipe:show_recipe"
                ),
            },
        ),
        "sweep": CommandGroup(
            "What a sweep file may say.",
            {
                "fields": CommandEntry("List the fields of a sweep file.", "sweep:list_fields"),
                "schema": CommandEntry("Print the JSON schema of a sweep file, for editors.", "sweep:schema"),
                "reference": CommandEntry("Print the reference page of a sweep file.", "sweep:reference"),
            },
        ),
        "data": CommandGroup(
            "Data sets of benchmarks.",
            {"get": CommandEntry("Fetch what a suite, a sweep or a card needs.", "data:get_data")},
        ),
        "cache": CommandGroup(
            "Built checkpoints on disk.",
            {
                "list": CommandEntry("List built checkpoints with their sizes.", "cache:list_artifacts"),
                "prune": CommandEntry(
                    "Delete built checkpoints, the least recently used first.", "cache:prune"
                ),
            },
        ),
        "db": CommandGroup(
            "Upgrade the store's schema, or check the store and its files.",
            {
                "upgrade": CommandEntry("Bring the store's schema up to this version.", "db:upgrade"),
                "check": CommandEntry("Check the schema, every samples file and the artifacts.", "db:check"),
            },
        ),
    },
}

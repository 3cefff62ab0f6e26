"""Every command of `mergeboard`: its heading and line in the help, and the function that it is. Nothing is imported here."""

from __future__ import annotations

from orchestrator.cli.lazy import Entry, Group, Table

COMMANDS: Table = {
    "Plan and run": {
        "doctor": Entry(
            "What this machine or cluster can do, and the command that mends what is missing.",
            "doctor:doctor",
        ),
        "plan": Entry(
            "A sweep, recipe or card: jobs, layers, bytes, cost, what is cached. Touches nothing.",
            "plan:plan",
        ),
        "run": Entry("Build and evaluate a sweep; what is in the store is not run again.", "run:run"),
        "submit": Entry("Hand a sweep to a cluster and print the run's id.", "submit:submit"),
        "status": Entry("List runs, or tell how far one is and what failed.", "status:status"),
        "watch": Entry("Show a run's progress until it ends.", "watch:watch"),
        "cancel": Entry("Stop a run within seconds; what is finished is kept.", "cancel:cancel"),
        "resume": Entry("Go on with a run that was stopped.", "resume:resume"),
    },
    "One checkpoint": {
        "build": Entry("Write one recipe as a checkpoint directory.", "build:build"),
        "eval": Entry("Score one checkpoint, or one layer path of it.", "eval:evaluate"),
        "scan": Entry(
            "Brain scan: run every block of layers twice, ask probes, confirm the best.", "scan:scan"
        ),
        "search": Entry("Search layer paths beyond the scan's grid.", "search:search"),
    },
    "Results": {
        "compare": Entry("Differences per benchmark with intervals and paired tests.", "compare:compare"),
        "reproduce": Entry("Check a model card claim by claim.", "reproduce:reproduce"),
        "card": Entry("Scores as model-card metadata or as a table.", "card:card"),
        "import": Entry("Import results made elsewhere, or a model card.", "import_:import_path"),
        "export": Entry("Write scores and samples as Parquet.", "export:export"),
        "dashboard": Entry("Open the Streamlit app on the store.", "dashboard:dashboard"),
    },
    "What there is": {
        "suite": Group(
            "Suites, their benchmarks, and the probes.",
            {
                "list": Entry("List the suites and the set of probes.", "suite:list_suites"),
                "show": Entry("List the benchmarks of a suite, or all probes.", "suite:show_suite"),
            },
        ),
        "recipe": Group(
            "The recipes of the catalogue.",
            {
                "list": Entry("List the recipes of the catalogue.", "recipe:list_recipes"),
                "show": Entry("Print a recipe of the catalogue as mergekit YAML.", "recipe:show_recipe"),
            },
        ),
        "sweep": Group(
            "What a sweep file may say.",
            {"fields": Entry("List the fields of a sweep file.", "sweep:list_fields")},
        ),
        "cache": Group(
            "Built checkpoints on disk.",
            {
                "list": Entry("List built checkpoints with their sizes.", "cache:list_artifacts"),
                "prune": Entry("Delete built checkpoints, the least recently used first.", "cache:prune"),
            },
        ),
        "db": Group(
            "The store's schema.",
            {
                "upgrade": Entry("Bring the store's schema up to this version.", "db:upgrade"),
                "check": Entry("Check the schema, every samples file and the artifacts.", "db:check"),
            },
        ),
    },
}

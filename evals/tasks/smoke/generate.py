"""Makes the smoke suite's questions: `python -m evals.tasks.smoke.generate`. Seeded, the same bytes every time.

The files have the columns of the data sets that the leaderboard's tasks read, so that the same code runs over them. The
questions are easy: a language model of 135 M parameters gets between a third and nine tenths of most benchmarks right,
which leaves room to lose and to gain. They measure nothing but whether everything works.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

DATA_DIR = Path(__file__).parent / "data"
SEED = 2026

Row = dict[str, Any]

KINDS = {
    "mammal": ["horse", "rabbit", "tiger", "sheep", "monkey", "goat", "camel", "wolf", "donkey", "elephant"],
    "bird": ["eagle", "sparrow", "owl", "pigeon", "parrot", "duck", "raven", "swan", "stork", "robin"],
    "fish": ["salmon", "tuna", "trout", "cod", "herring", "carp", "sardine", "pike", "mackerel", "perch"],
    "insect": ["ant", "bee", "wasp", "beetle", "butterfly", "mosquito", "locust", "moth", "fly", "cricket"],
    "tool": ["hammer", "saw", "drill", "wrench", "screwdriver", "shovel", "axe", "rake", "chisel", "spade"],
}

# fmt: off
OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "happy": "sad", "light": "dark", "early": "late",
    "rich": "poor", "hard": "soft", "wet": "dry", "high": "low", "open": "closed", "clean": "dirty",
    "young": "old", "strong": "weak", "full": "empty", "loud": "quiet",
}
# fmt: on

# fmt: off
CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Japan": "Tokyo",
    "Egypt": "Cairo", "Russia": "Moscow", "China": "Beijing", "Greece": "Athens", "Portugal": "Lisbon",
    "Austria": "Vienna", "Ireland": "Dublin", "Poland": "Warsaw", "Norway": "Oslo", "Cuba": "Havana",
    "Peru": "Lima",
}
# fmt: on

PEOPLE = ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Irene", "Jack", "Karen", "Leo"]
THINGS = ["key", "book", "ball", "letter", "cup", "map", "ring", "phone", "hat", "coin", "lamp", "bag"]
PLACES = ["kitchen", "garage", "garden", "bedroom", "office", "attic", "cellar", "library"]
REASONS = [
    "because it was late",
    "before going home",
    "after lunch",
    "and locked the door",
    "and turned off the light",
]

TOPICS = {
    "a dog in a park": ("ball", "tree"),
    "a cook in a kitchen": ("soup", "bread"),
    "a farmer and his cow": ("milk", "grass"),
    "a rainy day": ("umbrella", "street"),
    "a child at school": ("teacher", "book"),
    "a boat on a lake": ("water", "wind"),
    "a cat in a house": ("sofa", "window"),
    "a train journey": ("station", "ticket"),
    "a birthday party": ("cake", "friends"),
    "a walk in the forest": ("birds", "path"),
    "a football match": ("goal", "team"),
    "a visit to the doctor": ("nurse", "medicine"),
}

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def ifeval(rng: random.Random) -> list[Row]:
    """Instructions that lm-eval's own IFEval checkers judge."""
    rows: list[Row] = []
    for topic, (one, two) in TOPICS.items():
        for words, plain in (([one], False), ([two], True), ([one, two], False), ([two, one], True)):
            named = " and ".join(f'"{word}"' for word in words)
            ids = ["keywords:existence"] + (["punctuation:no_comma"] if plain else [])
            extra = " Do not use any commas." if plain else ""
            plural = "s" if len(words) > 1 else ""
            rows.append(
                {
                    "key": len(rows),
                    "prompt": f"Write one short sentence about {topic}. Use the word{plural} {named}.{extra}",
                    "instruction_id_list": ids,
                    "kwargs": [{"keywords": words}] + [{"keywords": None}] * (len(ids) - 1),
                }
            )
    rng.shuffle(rows)
    return rows


def bbh_kinds(rng: random.Random) -> list[Row]:
    """What kind of thing a word names."""
    rows = [
        {"input": f"What kind of thing is this: {word}?", "target": kind}
        for kind, words in KINDS.items()
        for word in words
    ]
    rng.shuffle(rows)
    return rows


def bbh_days(rng: random.Random) -> list[Row]:
    """Which day comes after or before another."""
    rows: list[Row] = []
    for number in range(48):
        day = rng.randrange(7)
        step, word = (1, "after") if number % 2 else (-1, "before")
        person = rng.choice(PEOPLE)
        rows.append(
            {
                "input": f"{person} asks: which day comes right {word} {DAYS[day]}?",
                "target": DAYS[(day + step) % 7],
            }
        )
    return rows


def math(rng: random.Random) -> list[Row]:
    """Counting on by one, and small sums."""
    rows: list[Row] = []
    for number in range(48):
        a, b = rng.randint(11, 98), rng.randint(1, 9)
        if number % 2:
            problem, working, value = f"What number comes right after ${a}$?", f"{a} + 1", a + 1
        else:
            ten = rng.choice((10, 20, 30))
            problem, working, value = f"What is ${ten} + {b}$?", f"{ten} + {b}", ten + b
        solution = f"${working} = \\boxed{{{value}}}$."
        rows.append({"problem": problem, "level": "Level 5", "type": "Arithmetic", "solution": solution})
    return rows


def gpqa(rng: random.Random) -> list[Row]:
    """Capitals and opposites, with three wrong answers each."""
    rows: list[Row] = []
    for pairs, question in (
        (CAPITALS, "What is the capital of {}?"),
        (OPPOSITES, "What is the opposite of {}?"),
    ):
        for asked, answer in pairs.items():
            wrong = rng.sample([other for other in pairs.values() if other != answer], 3)
            rows.append(
                {
                    "Question": question.format(asked),
                    "Correct Answer": answer,
                    **{f"Incorrect Answer {i}": text for i, text in enumerate(wrong, start=1)},
                }
            )
    for number in range(16):
        person, thing = PEOPLE[number % len(PEOPLE)], rng.choice(THINGS)
        right, *wrong = rng.sample(PLACES, 4)
        rows.append(
            {
                "Question": f"{person} left the {thing} in the {right}. Where is the {thing}?",
                "Correct Answer": right,
                **{f"Incorrect Answer {i}": text for i, text in enumerate(wrong, start=1)},
            }
        )
    rng.shuffle(rows)
    return rows


def musr(rng: random.Random) -> list[Row]:
    """Short stories of a thing that was left somewhere; some have a second place to mix it up with."""
    rows: list[Row] = []
    for number in range(48):
        person = rng.choice(PEOPLE)
        thing = rng.choice(THINGS)
        place, *others = rng.sample(PLACES, 3)
        narrative = (
            f"{person} put the {thing} in the {place} {rng.choice(REASONS)}. "
            f"{person} says: The {thing} is in the {place}. Everybody knows: The {thing} is in the {place}."
        )
        if number % 3 == 0:
            narrative = f"{person} looked into the {others[0]} first. {narrative}"
        choices = [f"The {thing} is in the {there}." for there in sorted([place, *others])]
        answer = f"The {thing} is in the {place}."
        rows.append(
            {
                "narrative": narrative,
                "question": f"Where is the {thing}?",
                "choices": str(choices),
                "answer_index": choices.index(answer),
                "answer_choice": answer,
            }
        )
    return rows


def mmlu_pro(rng: random.Random) -> list[Row]:
    """Letters among letters, ten options each."""
    letters = "ABCDEFGHIJ"
    rows: list[Row] = []
    for number in range(53):
        answer = rng.randrange(3, 10)
        row = letters[answer] * 4 if number % 2 else letters[answer - 3 : answer]
        rows.append(
            {
                "question_id": number,
                "question": f"Which letter goes on in the row {' '.join(row)}?",
                "options": [f"the letter {letter}" for letter in letters],
                "answer": letters[answer],
                "answer_index": answer,
                "cot_content": "",
                "category": "letters",
                "src": "smoke",
            }
        )
    return rows


def tables() -> dict[str, list[Row]]:
    """All files: path below the data folder, without suffix, and its rows."""

    def rng(name: str) -> random.Random:
        return random.Random(f"{SEED}/{name}")

    pro = mmlu_pro(rng("mmlu_pro"))
    return {
        "ifeval/train": ifeval(rng("ifeval")),
        "bbh/kinds/test": bbh_kinds(rng("kinds")),
        "bbh/days/test": bbh_days(rng("days")),
        "math/arithmetic/test": math(rng("math")),
        "gpqa/gpqa_smoke/train": gpqa(rng("gpqa")),
        "musr/where": musr(rng("musr")),
        "mmlu_pro/validation": pro[:5],
        "mmlu_pro/test": pro[5:],
    }


def readme(files: Iterable[str]) -> str:
    """The README.md of a data set folder: its configurations and splits, as the hub's data sets declare them."""
    configs: dict[str, list[str]] = {}
    for file in files:
        folder, _, split = file.rpartition("/")
        configs.setdefault(folder or "default", []).append(f"  - split: {split}\n    path: {file}.jsonl\n")
    listed = "".join(
        f"- config_name: {name}\n  data_files:\n{''.join(splits)}" for name, splits in configs.items()
    )
    return f"---\nlicense: apache-2.0\nconfigs:\n{listed}---\n\nMade by evals/tasks/smoke/generate.py; smoke data, no benchmark.\n"


def write(folder: Path) -> None:
    """Writes all files below a folder."""
    found = tables()
    for name, rows in found.items():
        path = folder / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    for dataset in dict.fromkeys(name.partition("/")[0] for name in found):
        files = [name.partition("/")[2] for name in found if name.startswith(f"{dataset}/")]
        (folder / dataset / "README.md").write_text(readme(files), encoding="utf-8")


def fewshot_math() -> Sequence[Row]:
    """The four worked examples of the smoke MATH task, in the columns that the leaderboard's task reads."""
    worked = (
        ("What is $10 + 4$?", "10 + 4", 14),
        ("What number comes right after $52$?", "52 + 1", 53),
        ("What is $20 + 7$?", "20 + 7", 27),
        ("What number comes right after $38$?", "38 + 1", 39),
    )
    return [
        {
            "problem": problem,
            "solution": f"${working} = \\boxed{{{value}}}$.",
            "few_shot": "1",
            "level": "Level 5",
        }
        for problem, working, value in worked
    ]


if __name__ == "__main__":
    write(DATA_DIR)

"""Reasoning, from seeded generators: questions with three choices (two for yes or no), correct equally often at each position.

easy      infer a rule: a relation in three pairs, patterns, series
medium    combine facts: orders of three to five, swaps, gifts, moves, elimination, chains of "all" and "no"

The scored forms have no examples: small models score higher without (patterns, SmolLM2-135M-Instruct: 0.61 without, 0.27 with
four examples, 0.33 for guessing).

The choices prevent shortcuts: the wrong ones come from the same question, and the first or last one named is correct no more
often than by chance. `levels` measures what remains.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from evals.probes.choice import ChoiceItem, ChoiceProbe
from evals.probes.prompts import Style
from evals.probes.results import Difficulty, Family, Form, ProbeError, Split

_SIZES = {Split.SEARCH: 36, Split.CONFIRMATION: 96}
_N_EXAMPLES = 4

_NAMES = ("Anna", "Ben", "Carl", "Lisa", "Emma", "Fred", "Mary", "Henry", "Ivan", "Julia", "Kate", "Leo")
_ROOMS = ("kitchen", "garden", "garage", "bedroom", "office", "basement", "library", "attic")
_THINGS = ("key", "coin", "ring", "pen", "cup", "book", "ball", "hat")
_COLOURS = ("red", "blue", "green", "black", "white", "yellow")
_JOBS = ("baker", "painter", "doctor", "farmer", "pilot", "singer", "teacher", "lawyer")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NUMBERS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_COMPARISONS = (
    ("taller", "tallest", "shortest"),
    ("older", "oldest", "youngest"),
    ("faster", "fastest", "slowest"),
    ("richer", "richest", "poorest"),
    ("heavier", "heaviest", "lightest"),
)

# Words with three related words each; the relation must be inferred from the pairs.
_RELATIONS: tuple[dict[str, tuple[str, str, str]], ...] = (
    {  # comparative, superlative, opposite
        "big": ("bigger", "biggest", "small"), "hot": ("hotter", "hottest", "cold"), "old": ("older", "oldest", "young"),
        "fast": ("faster", "fastest", "slow"), "rich": ("richer", "richest", "poor"), "high": ("higher", "highest", "low"),
        "long": ("longer", "longest", "short"), "strong": ("stronger", "strongest", "weak"),
        "hard": ("harder", "hardest", "soft"),
    },
    {  # past, third person, -ing
        "go": ("went", "goes", "going"), "see": ("saw", "sees", "seeing"), "eat": ("ate", "eats", "eating"),
        "come": ("came", "comes", "coming"), "run": ("ran", "runs", "running"), "take": ("took", "takes", "taking"),
        "give": ("gave", "gives", "giving"), "sing": ("sang", "sings", "singing"), "write": ("wrote", "writes", "writing"),
    },
    {  # next, the one before, ordinal
        "two": ("three", "one", "second"), "three": ("four", "two", "third"), "four": ("five", "three", "fourth"),
        "five": ("six", "four", "fifth"), "six": ("seven", "five", "sixth"), "seven": ("eight", "six", "seventh"),
        "eight": ("nine", "seven", "eighth"), "nine": ("ten", "eight", "ninth"),
    },
    {  # capital, people, continent
        "France": ("Paris", "French", "Europe"), "Japan": ("Tokyo", "Japanese", "Asia"),
        "Egypt": ("Cairo", "Egyptian", "Africa"), "Italy": ("Rome", "Italian", "Europe"),
        "China": ("Beijing", "Chinese", "Asia"), "Kenya": ("Nairobi", "Kenyan", "Africa"),
        "Spain": ("Madrid", "Spanish", "Europe"), "Russia": ("Moscow", "Russian", "Europe"),
        "Peru": ("Lima", "Peruvian", "America"), "Cuba": ("Havana", "Cuban", "America"),
    },
)  # fmt: skip


class Riddle(NamedTuple):
    """A question, the beginning of its answer, and the choices that complete it."""

    question: str
    stem: str
    right: str
    wrong: tuple[str, ...]

    def item(self, place: int) -> ChoiceItem:
        """The question with the correct choice at position `place`."""
        place %= len(self.wrong) + 1
        choices = (*self.wrong[:place], self.right, *self.wrong[place:])
        return ChoiceItem(question=self.question, stem=self.stem, choices=choices, answer=place)


def _others(rng: random.Random, choices: Sequence[str], right: str) -> tuple[str, ...]:
    wrong = [choice for choice in choices if choice != right]
    rng.shuffle(wrong)
    return tuple(wrong)


# --- easy -----------------------------------------------------------------------------------------------------------


def _relation(rng: random.Random) -> Riddle:
    table, relation = rng.choice(_RELATIONS), rng.randrange(3)
    *shown, queried = rng.sample(sorted(table), 4)
    pairs = ", ".join(f"{word} - {table[word][relation]}" for word in shown)
    right = table[queried][relation]
    return Riddle(f"{pairs}, {queried} - ?", f"{queried} -", right, _others(rng, table[queried], right))


def _pattern(rng: random.Random) -> Riddle:
    a, b, c = rng.sample(_COLOURS, 3)
    row, count = rng.choice(([a, b, c], [a, a, b], [a, b, b])) * 4, rng.randrange(7, 10)
    shown = f"{', '.join(row[:count])},"
    return Riddle(f"{shown} ?", shown, row[count], _others(rng, (a, b, c), row[count]))


def _series(rng: random.Random) -> Riddle:
    words = rng.choice((_NUMBERS, _LETTERS))
    step = rng.choice((1, 2, 3))
    start = rng.randrange(len(words) - 6 * step)
    row = words[start::step]
    # Wrong choices: one step too far, and a neighbour of the correct one.
    near = words[start + 5 * step - 1] if step > 1 else row[3]
    shown = f"{', '.join(row[:5])},"
    return Riddle(f"{shown} ?", shown, row[5], _others(rng, (row[6], near), ""))


# --- medium ---------------------------------------------------------------------------------------------------------


def _gift(rng: random.Random) -> Riddle:
    who, things = rng.sample(_NAMES, 3), rng.sample(_THINGS, 3)
    listed = rng.sample(things, 3)
    gifts_given = [(who[1], things[1]), (who[2], things[2])]
    rng.shuffle(gifts_given)
    gifts = " and ".join(f"the {thing} to {name}" for name, thing in gifts_given)
    asked = rng.randrange(3)
    question = (
        f"{who[0]} has a {listed[0]}, a {listed[1]} and a {listed[2]}. {who[0]} gives {gifts}. "
        f"Who has the {things[asked]} now?"
    )
    return Riddle(question, f"The {things[asked]} is now with", who[asked], _others(rng, who, who[asked]))


def _move(rng: random.Random) -> Riddle:
    who, rooms = rng.sample(_NAMES, 2), rng.sample(_ROOMS, 3)
    mover = rng.randrange(2)
    # The question is about the mover in a third of the cases, so that each room is correct equally often.
    asked = mover if rng.randrange(3) == 0 else 1 - mover
    right = rooms[2] if asked == mover else rooms[asked]
    question = (
        f"{who[0]} is in the {rooms[0]}. {who[1]} is in the {rooms[1]}. {who[mover]} goes to the {rooms[2]}. "
        f"Where is {who[asked]} now?"
    )
    return Riddle(question, f"{who[asked]} is now in the", right, _others(rng, rooms, right))


def _order(rng: random.Random) -> Riddle:
    who = rng.sample(_NAMES, rng.randrange(3, 6))
    more, most, least = rng.choice(_COMPARISONS)
    facts = [f"{a} is {more} than {b}." for a, b in itertools.pairwise(who)]
    rng.shuffle(facts)
    top = rng.random() < 0.5
    right, superlative = (who[0], most) if top else (who[-1], least)
    wrong = _others(rng, (who[0], rng.choice(who[1:-1]), who[-1]), right)
    return Riddle(f"{' '.join(facts)} Who is the {superlative}?", f"The {superlative} is", right, wrong)


def _swap(rng: random.Random) -> Riddle:
    who, colours = rng.sample(_NAMES, 3), rng.sample(_COLOURS, 3)
    has = dict(zip(who, colours, strict=True))
    start = (
        ", ".join(f"{w} has the {has[w]} ball" for w in who[:2])
        + f" and {who[2]} has the {has[who[2]]} ball."
    )
    swaps = []
    for _ in range(rng.randrange(1, 4)):
        a, b = rng.sample(who, 2)
        has[a], has[b] = has[b], has[a]
        swaps.append(f"{a} and {b} swap balls.")
    asked = rng.choice(who)
    question = f"{start} {' '.join(swaps)} Which ball does {asked} have now?"
    return Riddle(question, f"{asked} has the", has[asked], _others(rng, colours, has[asked]))


def _elimination(rng: random.Random) -> Riddle:
    who, jobs = rng.sample(_NAMES, 3), rng.sample(_JOBS, 3)
    listed = rng.sample(jobs, 3)
    first, second = rng.sample([jobs[1], jobs[2]], 2)
    asked = rng.randrange(2)
    facts = [f"{who[0]} is neither the {first} nor the {second}.", f"{who[1]} is not the {jobs[2]}."]
    rng.shuffle(facts)
    question = (
        f"{', '.join(sorted(who)[:2])} and {sorted(who)[2]} are a {listed[0]}, a {listed[1]} and a {listed[2]}. "
        f"{' '.join(facts)} What is {who[asked]}?"
    )
    return Riddle(question, f"{who[asked]} is the", jobs[asked], _others(rng, jobs, jobs[asked]))


def _chain(rng: random.Random) -> Riddle:
    name, groups = rng.choice(_NAMES), rng.sample(_JOBS, rng.randrange(3, 5))
    says_no = rng.random() < 0.5
    links = list(itertools.pairwise(groups))
    facts = [f"All {a}s are {b}s." for a, b in links[:-1]]
    facts.append(f"{'No' if says_no else 'All'} {links[-1][0]}s are {links[-1][1]}s.")
    rng.shuffle(facts)
    question = f"{' '.join(facts)} {name} is a {groups[0]}. Is {name} a {groups[-1]}?"
    right, wrong = ("No", "Yes") if says_no else ("Yes", "No")
    return Riddle(question, "The answer is", right, (wrong,))


_GENERATORS: dict[Difficulty, tuple[Callable[[random.Random], Riddle], ...]] = {
    Difficulty.EASY: (_relation, _pattern, _relation, _series),
    Difficulty.MEDIUM: (_order, _swap, _elimination, _chain, _gift, _move),
}
DIFFICULTIES = tuple(_GENERATORS)


@functools.cache
def _sets(difficulty: Difficulty) -> dict[Split | None, tuple[ChoiceItem, ...]]:
    """Examples (under None), search set and confirmation set; no question occurs twice."""
    kinds = _GENERATORS[difficulty]
    questions: set[str] = set()
    sets: dict[Split | None, tuple[ChoiceItem, ...]] = {}
    sizes: list[tuple[Split | None, int]] = [(None, _N_EXAMPLES), *_SIZES.items()]
    for split, size in sizes:
        rng = random.Random(f"reasoning {difficulty} {split}")
        items: list[ChoiceItem] = []
        while len(items) < size:
            place, kind = divmod(len(items), len(kinds))
            item = kinds[kind](rng).item(place)
            if item.question not in questions:
                questions.add(item.question)
                items.append(item)
        sets[split] = tuple(items)
    return sets


def reasoning_probe(difficulty: Difficulty, form: Form, split: Split) -> ChoiceProbe:
    """A reasoning probe; ProbeError for a difficulty without one."""
    if difficulty not in _GENERATORS:
        raise ProbeError(f"There is no {difficulty} reasoning: choose one of {', '.join(_GENERATORS)}.")
    sets = _sets(difficulty)
    shown = tuple(item.example(form) for item in sets[None]) if form is Form.GENERATED else ()
    return ChoiceProbe(
        family=Family.REASONING,
        difficulty=difficulty,
        form=form,
        split=split,
        style=Style(examples=shown),
        items=sets[split],
        max_new_tokens=16,
    )

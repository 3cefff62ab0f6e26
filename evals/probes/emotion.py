"""Emotional intensity, in scenes written for this project.

easy        a sentence, and which of eight feelings the person in it has
standard    a scene and four emotions to rate from 0 to 10, EQ-Bench style

Standard, generated: the published answer block. Standard, scored: each emotion is asked for separately, on a scale from 0 to
9, because then every rating is one token and "1" is not a prefix of another; the expected digit is scaled to 0..10. The scored
form has no examples, because small models repeat their ratings (SmolLM2-135M-Instruct: correlation with the reference 0.26
without and 0.06 with examples).
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterator, Sequence

from pydantic import Field

from evals.engine import Frozen, GenerateResult, ScoreResult
from evals.probes.arithmetic_scoring import shares
from evals.probes.choice import ChoiceItem, ChoiceProbe
from evals.probes.emotion_scoring import (
    N_EMOTIONS,
    TOP,
    Parsed,
    corrected_credit,
    expected_rating,
    parse_corrected,
    parse_published,
    published_credit,
    scaled_reference,
)
from evals.probes.probe import AnyProbe, Probe, Result, certain, spread, written
from evals.probes.prompts import Ask, Style
from evals.probes.results import Difficulty, Family, Form, ItemResult, LevelKind, ProbeError, Split
from evals.probes.scenes import Moment, Scene, read_moments, read_scenes

DIFFICULTIES = (Difficulty.EASY, Difficulty.STANDARD)
_RATINGS = tuple(f" {digit}" for digit in range(10))
_FIRST_PASS_CONFIDENCE = 0.8


class EmotionItem(Frozen):
    """A scene and the ratings of four emotions."""

    scene: str = Field(description="Name of the scene.")
    about: str = Field(description="The person whose emotions are rated.")
    text: str = Field(description="What happens.")
    emotions: tuple[str, ...] = Field(
        min_length=N_EMOTIONS, max_length=N_EMOTIONS, description="The emotions."
    )
    ratings: tuple[int, ...] = Field(
        min_length=N_EMOTIONS, max_length=N_EMOTIONS, description="Their ratings, 0 to 10."
    )


class EmotionProbe(Probe[EmotionItem]):
    """Scenes with four emotions to rate."""

    def asks(self, item: EmotionItem) -> tuple[Ask, ...]:
        """One question for the answer block, or one per emotion."""
        if self.form is Form.GENERATED:
            block = "\n".join(f"{emotion}: <rating>" for emotion in item.emotions)
            return (
                Ask(
                    question=f"{item.text}\n\nHow strongly does {item.about} feel each of these emotions at the end of the scene? "
                    "Rate each by itself from 0 (not at all) to 10 (as strongly as possible); the ratings need not add up to "
                    f"anything. Answer in exactly this form, without comment:\n\nFirst pass scores:\n{block}"
                ),
            )
        return tuple(
            Ask(
                question=f"{item.text}\nFrom 0 to 9, how {emotion.lower()} is {item.about}?", options=_RATINGS
            )
            for emotion in item.emotions
        )

    def score_item(self, index: int, item: EmotionItem, answers: Sequence[Result]) -> ItemResult:
        """Credit for the ratings' distance from the reference, by both scorings."""
        first, mass = answers[0], None
        if isinstance(first, GenerateResult):
            response, parsed = first.text, parse_published(first.text)
            ratings: tuple[float | None, ...] = parse_corrected(first.text, item.emotions)
            extracted = None if all(r is None for r in ratings) else _ratings_text(ratings)
        else:
            scored = [shares(answer.logprobs) for answer in answers if isinstance(answer, ScoreResult)]
            expected = tuple(expected_rating(probabilities) for probabilities, _ in scored)
            mass = math.fsum(m for _, m in scored) / len(scored)
            parsed, ratings = Parsed(expected, _FIRST_PASS_CONFIDENCE), expected
            response = extracted = _ratings_text(expected)
        return ItemResult(
            item=index,
            target=_ratings_text(item.ratings),
            response=response,
            extracted=extracted,
            published=published_credit(item.ratings, parsed),
            corrected=corrected_credit(item.ratings, ratings),
            answer_mass=mass,
        )

    def level_answers(self, kind: LevelKind) -> Iterator[tuple[Result, ...]]:
        """Random ratings, the same rating for everything, the question, the reference, the reference scaled to the sum 10."""
        if kind is LevelKind.RANDOM:
            rng = random.Random(0)
            for _ in range(200):
                yield self._rating_answers(lambda item: [rng.randrange(11) for _ in item.emotions])
        elif kind is LevelKind.CONSTANT:
            for half in range(2 * int(TOP) + 1):
                yield self._rating_answers(functools.partial(_constant_ratings, half / 2))
        elif kind is LevelKind.ECHO and self.form is Form.GENERATED:
            yield written([self.asks(item)[0].question for item in self.items])
        elif kind is LevelKind.ECHO:
            # The last number in the question is the top of its scale.
            yield tuple(certain(10, 9) for item in self.items for _ in item.emotions)
        elif kind is LevelKind.RIGHT:
            yield self._rating_answers(lambda item: item.ratings)
        else:
            yield self._rating_answers(lambda item: item.ratings)
            yield self._rating_answers(lambda item: scaled_reference(item.ratings))

    def _rating_answers(self, ratings: Callable[[EmotionItem], Sequence[float]]) -> tuple[Result, ...]:
        if self.form is Form.SCORED:
            return tuple(_digit_probabilities(rating) for item in self.items for rating in ratings(item))
        return written([_answer_block(item, ratings(item)) for item in self.items])


def _constant_ratings(rating: float, item: EmotionItem) -> tuple[float, ...]:
    return (rating,) * len(item.emotions)


def _digit_probabilities(rating: float) -> ScoreResult:
    """Probabilities of the digits 0 to 9 whose expected value is the rating."""
    place = rating / TOP * 9
    low = min(int(place), 8)
    return spread(
        [1 - (place - low) if d == low else place - low if d == low + 1 else 0.0 for d in range(10)]
    )


def _answer_block(item: EmotionItem, ratings: Sequence[float]) -> str:
    lines = "\n".join(
        f"{emotion}: {rating:.10g}" for emotion, rating in zip(item.emotions, ratings, strict=True)
    )
    return f"First pass scores:\n{lines}"


def _ratings_text(ratings: Sequence[float | None]) -> str:
    return ", ".join("-" if rating is None else f"{rating:.3g}" for rating in ratings)


def _scene_item(scene: Scene) -> EmotionItem:
    """The scene with its emotions in an order that does not depend on their ratings."""
    emotions = sorted(scene.emotions)
    random.Random(f"order of {scene.id}").shuffle(emotions)
    return EmotionItem(
        scene=scene.id,
        about=scene.about,
        text=scene.text,
        emotions=tuple(emotions),
        ratings=tuple(scene.emotions[emotion] for emotion in emotions),
    )


@functools.cache
def _feelings() -> tuple[str, ...]:
    return tuple(dict.fromkeys(moment.feeling for moment in read_moments().search))


def _moment_item(moment: Moment) -> ChoiceItem:
    return ChoiceItem(
        question=f"{moment.text} How does {moment.about} feel?",
        stem=f"{moment.about} is",
        choices=_feelings(),
        answer=_feelings().index(moment.feeling),
    )


def emotion_probe(difficulty: Difficulty, form: Form, split: Split) -> AnyProbe:
    """An emotion probe; ProbeError for a difficulty without one."""
    if difficulty is Difficulty.STANDARD:
        label = "/no_think " if form is Form.GENERATED else "Scene: "
        return EmotionProbe(
            family=Family.EMOTION,
            difficulty=difficulty,
            form=form,
            split=split,
            style=Style(question_label=label, answer_label="" if form is Form.GENERATED else "Answer:"),
            items=tuple(_scene_item(scene) for scene in read_scenes(split)),
            max_new_tokens=64,
        )
    if difficulty is Difficulty.EASY:
        moments = read_moments()
        picked = moments.search if split is Split.SEARCH else moments.confirmation
        return ChoiceProbe(
            family=Family.EMOTION,
            difficulty=difficulty,
            form=form,
            split=split,
            style=Style(examples=tuple(_moment_item(m).example(form) for m in moments.examples)),
            items=tuple(_moment_item(m) for m in picked),
            max_new_tokens=12,
        )
    raise ProbeError(f"There is no {difficulty} emotion probe: choose one of {', '.join(DIFFICULTIES)}.")

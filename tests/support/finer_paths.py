"""Layer paths with partial and damped visits that the tests of both engines share, and how an engine is compared on them."""

from __future__ import annotations

from collections.abc import Sequence

from evals.engine import GenerateRequest, PathEngine, ScoreRequest
from recipes.layer_path import LayerPath
from recipes.layer_visit import Layers, layer_of, variant_of
from tests.support.engine_requests import LAYERS, generated, largest_difference, scored
from tests.support.plain_decoder import Parts, PlainDecoder

FINER_TEXTS = (
    "(2, 4):attention",
    "(1, 5):mlp",
    "(2, 4):damped=0.5",
    "repeat:3*3:attention:damped=0.25",
    "layers:0-3,2:attention,2:mlp,2:damped=0.5,3-6",
    "layers:0:mlp,1-3,3:attention,4:damped=1.5,5",
    "layers:0:damped=0.5,1-6,5:damped=0.5",
    "layers:0-6:mlp",
    "(0, 6):mlp:damped=0.7",
    "layers:0-6,4:damped=0,2:damped=0",
)
"""Every kind of visit at the beginning, inside and at the end of a path, several of one layer, and one path without attention."""
FINER_PATHS: tuple[Layers, ...] = tuple(LayerPath.parse(text, LAYERS).layers for text in FINER_TEXTS)


def parts_of(path: Layers) -> list[Parts]:
    """The path as the plain decoder takes it."""
    return [(layer_of(v), variant_of(v).part.value, variant_of(v).factor) for v in path]


def check_against_plain_torch(
    engine: PathEngine,
    plain: PlainDecoder,
    requests: list[ScoreRequest],
    paths: Sequence[Layers],
    limit: float,
) -> None:
    """Log-probabilities within `limit` and the same greedy tokens, path by path and with all paths at once."""
    expected = [[plain.score(request, parts_of(path)) for request in requests] for path in paths]
    together = {(path, index): result for path, index, result in engine.score_paths(requests, paths)}
    prompts = [GenerateRequest(prompt=r.context[-24:], max_new_tokens=6) for r in requests[:4]]
    texts = {(path, index): result for path, index, result in engine.generate_paths(prompts, paths)}
    for number, path in enumerate(paths):
        engine.set_layer_path(path)
        assert largest_difference(scored(engine, requests), expected[number]) < limit, path
        shared = [together[number, index] for index in range(len(requests))]
        assert largest_difference(shared, expected[number]) < limit, path
        for index, (prompt, result) in enumerate(zip(prompts, generated(engine, prompts), strict=True)):
            tokens, lead = plain.continue_greedily(prompt.prompt, parts_of(path), prompt.max_new_tokens)
            text = engine_text(engine, tokens)
            # A near-tie can end otherwise, and an engine may write half a character in another way.
            if lead > 10 * limit and not {0, 2} & set(tokens) and "\ufffd" not in text:
                assert result.text == text, path
                assert texts[number, index].text == result.text, path
    engine.set_layer_path(None)


def engine_text(engine: PathEngine, tokens: Sequence[int]) -> str:
    """The tokens as text of the checkpoint's tokenizer."""
    from transformers import AutoTokenizer

    return str(AutoTokenizer.from_pretrained(engine.checkpoint).decode(tokens))

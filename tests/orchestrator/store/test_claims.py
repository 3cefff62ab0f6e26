"""Imported runs, cards and verdicts in the store, on both databases."""

from __future__ import annotations

import pytest

from evals.claims.records import VerdictKind
from orchestrator.errors import RunError
from orchestrator.store import Store
from tests.support.claim_data import HUB_NAME, card_record, imported_result, imported_run, reproduction
from tests.support.store_data import new_run


def test_an_imported_run_comes_back_as_it_went_in(store: Store) -> None:
    run, results = imported_run(), [imported_result(), imported_result(0.5, samples_path="imports/x.parquet")]
    store.put_import(run, results)
    (found,) = store.imports()
    assert found.imported_at is not None
    assert found.model_copy(update={"imported_at": None}) == run
    assert store.imported_results([run.id])[run.id] == tuple(results)


def test_the_same_file_again_takes_the_place_of_what_was_there(store: Store) -> None:
    store.put_import(imported_run(), [imported_result(), imported_result(0.5)])
    store.put_import(imported_run(), [imported_result(0.6)])
    (found,) = store.imports()
    (result,) = store.imported_results([found.id])[found.id]
    assert result.measurement.result.raw == 0.6


def test_imported_runs_are_found_by_id_checkpoint_and_file(store: Store) -> None:
    for number in (0xABCD0000_00000001, 0xABCE0000_00000002):
        store.put_import(imported_run(number), [])
    for text, n in (
        (HUB_NAME, 2),
        ("abcd000000000001", 1),
        ("abcd", 1),
        ("abc", 0),
        (f"/runs/{0xABCD0000_00000001}/results.json", 1),
        ("%%%%", 0),
        ("org/other", 0),
    ):
        assert len(store.find_imports(text)) == n, text


def test_a_removed_import_leaves_the_files_that_others_use(store: Store) -> None:
    shared, own = (
        imported_result(samples_path="imports/x.parquet"),
        imported_result(samples_path="imports/y.parquet"),
    )
    first, second = imported_run(1 << 60), imported_run(2 << 60)
    store.put_import(first, [shared, own])
    store.put_import(second, [shared])
    assert store.remove_import(first.id) == ("imports/y.parquet",)
    assert [run.id for run in store.imports()] == [second.id]
    assert store.imported_results([first.id]) == {}
    assert store.remove_import(second.id) == ("imports/x.parquet",)
    assert store.remove_import(second.id) == ()


def test_text_that_no_database_takes_is_mended(store: Store) -> None:
    store.put_import(imported_run(checkpoint="a\0b"), [])
    store.put_card(card_record().model_copy(update={"text": "a\0b"}))
    assert store.imports()[0].checkpoint == "a\ufffdb"
    assert store.card(card_record().id).text == "a\ufffdb"


def test_a_card_comes_back_with_its_claims(store: Store) -> None:
    card = card_record()
    store.put_card(card)
    found = store.card(card.id)
    assert found.model_copy(update={"imported_at": None}) == card
    with pytest.raises(RunError, match="mergeboard import"):
        store.card("nothing")


def test_verdicts_are_kept_and_counted_for_the_last_reproduction(store: Store) -> None:
    run = new_run()
    store.create_run(run, [], [])
    for number in (1, 2):
        store.put_card(card_record(number))
    first = reproduction(run_id=run.id)
    store.put_reproduction(first)
    second = reproduction().model_copy(update={"verdicts": reproduction().verdicts[1:]})
    store.put_reproduction(second)
    assert [r.id for r in store.reproductions(card_record().id)] == [second.id, first.id]
    assert store.reproductions(card_record().id)[1].verdicts == first.verdicts
    listed = {card.id: card for card in store.cards()}
    assert listed[card_record(1).id].n_claims == 2
    assert listed[card_record(1).id].verdicts == {
        VerdictKind.REPRODUCED: 0,
        VerdictKind.NOT_REPRODUCED: 0,
        VerdictKind.NOT_COMPARABLE: 1,
        VerdictKind.IMPOSSIBLE: 0,
    }
    assert listed[card_record(2).id].reproduced_at is None
    # The card read anew keeps what was judged.
    store.put_card(card_record())
    assert len(store.reproductions(card_record().id)) == 2

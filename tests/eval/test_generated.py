"""Generated lists as scores: what a beam search finds, with or without what was seen."""

import pytest

from recray.eval.generated import NOT_GENERATED, GeneratedScores
from tests.models.test_decoder import HISTORIES, NUM_ITEMS, brute_force, decoder, queries


@pytest.mark.parametrize("seen", ["remove", "keep"])
def test_seen_items_come_out_where_they_may(seen: str) -> None:
    model = decoder(beams=NUM_ITEMS)
    kept = seen == "keep"
    scored = GeneratedScores(model, NUM_ITEMS, 900, "keep" if kept else "remove")  # the whole catalogue
    scores_BI = scored.score_items(queries(HISTORIES))
    for b, history in enumerate(HISTORIES):
        expected_I = brute_force(model, b, history) if history else None
        for item in range(NUM_ITEMS):
            if item in history and not kept:
                assert scores_BI[b, item] == NOT_GENERATED
            elif expected_I is not None:
                assert scores_BI[b, item].item() == pytest.approx(expected_I[item].item(), abs=1e-4)
            else:
                assert scores_BI[b, item] > NOT_GENERATED
    assert scored.exact_share() > 0

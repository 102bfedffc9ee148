"""Item content in batches: every item once, alike ones together, the same for any number of workers."""

import torch

from recray.data.batches.content import ContentBatches


def test_every_item_comes_once_an_epoch_whatever_the_workers() -> None:
    content_IF = torch.arange(103.0)[:, None]
    batches = ContentBatches(content_IF, 25, seed=3)
    assert batches.num_steps() == 5
    orders = []
    for epoch in (0, 1):
        alone = [batches.batch(epoch, step) for step in range(5)]
        orders.append(torch.cat([batch.content_BF for batch in alone])[:, 0])
        assert torch.equal(orders[-1].sort().values, content_IF[:, 0])
        for step, batch in enumerate(alone):
            shares = [batches.batch(epoch, step, rank, 3) for rank in range(3)]
            assert torch.equal(torch.cat([share.content_BF for share in shares]), batch.content_BF)
            assert {share.total for share in shares} == {batch.size}
    assert not torch.equal(*orders)
    again = ContentBatches(content_IF, 25, seed=3).batch(1, 4)
    assert torch.equal(again.content_BF, batches.batch(1, 4).content_BF)


def test_near_equal_items_meet_in_one_batch() -> None:
    content_IF = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    batches = ContentBatches(torch.cat([content_IF, content_IF + 1e-4]), 100, seed=0)
    met = 0
    for step in range(10):
        gaps_BB = torch.cdist(content_BF := batches.batch(0, step).content_BF, content_BF)
        met += int((gaps_BB < 0.01).sum()) - len(content_BF)
    assert met >= 2 * 480  # of 500 pairs; a slice's edge may part one

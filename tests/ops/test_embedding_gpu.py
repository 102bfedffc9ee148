"""The torch backend on a CUDA device: the numbers of the CPU."""

import pytest
import torch

from recray.ops.embedding_bags import EmbeddingBags, EmbeddingConfig, Placement
from recray.schema import DataError
from tests.ops.embedding_world import NO_MAX, TABLES, Case, Sharding, keyed, random_bags, train, whole

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = Placement(device=torch.device("cuda"))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sharding", ["table_wise", "column_wise"])
def test_equal_to_the_cpu(sharding: Sharding, weighted: bool) -> None:
    case = Case(EmbeddingConfig(sharding=sharding), NO_MAX if weighted else TABLES, weighted)
    found, expected = train(case, CUDA), train(case, Placement())
    for feature in case.features:
        torch.testing.assert_close(found["forward"][feature], expected["forward"][feature], atol=1e-6, rtol=0)
    for what in ("weights", "sums"):
        tables = whole([expected], what)
        for name, table in whole([found], what).items():
            torch.testing.assert_close(table, tables[name], atol=1e-5, rtol=1e-4)


def test_a_batch_left_on_the_cpu_is_named() -> None:
    with pytest.raises(DataError, match="ids are on cpu, the tables on cuda: move the batch there"):
        EmbeddingBags(TABLES, placement=CUDA)(keyed(random_bags(0)))

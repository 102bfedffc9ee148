"""Models side by side: what each reaches, and how much better one is than another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import polars as pl
from rich.table import Table

from recray.api.shown import Shown
from recray.config import ConfigError
from recray.eval.compare import Row, aggregate, compare, table
from recray.eval.evaluate import Evaluation
from recray.eval.over_seeds import OverSeeds, Runs, difference, holm
from recray.schema import ProtocolCard

LISTED = ("hit", "ndcg", "mrr", "coverage", "novelty")


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """Every model under one card, asked for the same users."""

    rows: tuple[Row, ...]
    metric: str

    def __post_init__(self) -> None:
        for row in self.rows:
            if self.metric not in (measured := row.evaluation.means()):
                raise ConfigError(
                    f"{row.model} was measured by {', '.join(measured)}, not by {self.metric}: ask for one "
                    "of these, or name the model, and it is trained here"
                )
        self.differences  # noqa: B018 - what cannot be compared is refused now

    @property
    def card(self) -> ProtocolCard:
        return self.rows[0].evaluation.card

    @property
    def metrics(self) -> pl.DataFrame:
        """A row for each model and metric: mean, and its 95 % interval over users."""
        found = [
            (result.model, result.num_seeds, name, *interval)
            for result in aggregate(self.rows)
            for name, interval in result.metrics.items()
        ]
        kinds = {"model": pl.String, "seeds": pl.Int64, "metric": pl.String, **_BOUNDS}
        return pl.DataFrame(found, schema=kinds, orient="row")

    @property
    def differences(self) -> pl.DataFrame:
        """A row for each pair: how much more of the metric the better one has, 95 % interval, and p-value.

        Users are paired. With several seeds their spread belongs to the error; p-values are Holm's, for
        there being several pairs.
        """
        runs = _by_model(self.rows)
        pairs = [sorted(pair, key=lambda one: -self._mean(runs[one])) for pair in combinations(runs, 2)]
        found = [self._difference(runs[better], runs[than]) for better, than in pairs]
        p_values = holm([one.p_value for one in found])
        lines = [
            (*pair, *one[:3], p_value) for pair, one, p_value in zip(pairs, found, p_values, strict=True)
        ]
        kinds = {"better": pl.String, "than": pl.String, **_BOUNDS, "p_value": pl.Float64}
        return pl.DataFrame(lines, schema=kinds, orient="row")

    def _mean(self, runs: Sequence[Evaluation]) -> float:
        return sum(float(run.per_query[self.metric].mean()) for run in runs) / len(runs)

    def _difference(self, a: Sequence[Evaluation], b: Sequence[Evaluation]) -> OverSeeds:
        if len(a) == len(b) == 1:
            return OverSeeds(*compare(a[0], b[0], self.metric))
        return difference(Runs(a, len(a) > 1), Runs(b, len(b) > 1), self.metric)

    def shown(self) -> Iterator[Table]:
        shared = set.intersection(*(set(row.evaluation.means()) for row in self.rows))
        k = self.metric.partition("@")[2]
        yield table(self.rows, [name for name in (f"{kind}@{k}" for kind in LISTED) if name in shared])
        grid = Table(title=f"differences of {self.metric}, users paired", caption="p-values by Holm")
        for column in ("better", "than", "difference", "95 % interval", "p"):
            grid.add_column(column)
        for better, than, mean, low, high, p_value in self.differences.iter_rows():
            grid.add_row(better, than, f"{mean:+.4f}", f"{low:+.4f} to {high:+.4f}", f"{p_value:.4f}")
        yield grid


_BOUNDS = {"mean": pl.Float64, "low": pl.Float64, "high": pl.Float64}


def _by_model(rows: Sequence[Row]) -> dict[str, list[Evaluation]]:
    found: dict[str, list[Evaluation]] = {}
    for row in rows:
        found.setdefault(row.model, []).append(row.evaluation)
    return found

"""The README's numbers are those of the result files; a figure without a file is named as such."""

import json
import re
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pytest

REPO = Path(__file__).parents[2]
SECTION = (REPO / "README.md").read_text().split("## Numbers")[1].split("\n## ")[0]
ROWS = [line for line in SECTION.splitlines() if line.startswith("|")][2:]


class Snippet(NamedTuple):
    """A piece of a row with ``{}`` for each figure, and what the figures are."""

    text: str
    values: tuple[float, ...]


class Figures(NamedTuple):
    """What stands in one row of the table."""

    row: str  # words of no other row
    kept: tuple[Snippet, ...]
    not_kept: tuple[str, ...] = ()
    """Pieces whose figures have no result file; they are not compared."""


def result(name: str) -> Any:
    return json.loads((REPO / "benchmarks" / "results" / f"{name}.json").read_text())


def at(document: Any, *paths: str) -> tuple[float, ...]:
    """The values at paths whose parts are separated by a slash."""
    return tuple(_at(document, path) for path in paths)


def _at(document: Any, path: str) -> float:
    for part in path.split("/"):
        document = document[int(part) if isinstance(document, list) else part]
    return float(document)


def seeds(name: str, model: str, metric: str) -> list[float]:
    """The metric of each seed, in the JSON that ``jobs/evaluate.py`` writes."""
    return [row[metric]["mean"] for row in result(name)["rows"] if row["model"] == model]


def mean(name: str, model: str, metric: str = "ndcg@10") -> float:
    return fmean(seeds(name, model, metric))


def gain(name: str, better: str, base: str, metric: str = "ndcg@10") -> float:
    return mean(name, better, metric) - mean(name, base, metric)


def interval(found: dict[str, float], scale: float = 1.0) -> tuple[float, ...]:
    return tuple(scale * found[key] for key in ("mean", "low", "high"))


LEAVE_ONE_OUT, GENERATIVE = "ml-100k-leave-one-out", "ml-100k-generative"
SEQUENCE_100K, SEQUENCE_1M = "ml-100k-sequence", "ml-1m-sequence"
BENCH, RANKED, SERVED = result("sequence"), result("ml-1m-ranking"), result("serving")
REFIT, REFIT_ROWS = result("refit"), result("refit_rows")
CLICKS, CODES, GENERATED = result("click_quality"), result("semantic_ids"), result("generative")
JUDGED, AT_ONCE = result("guardrails"), result("baselines")


def at_once(dataset: str) -> Snippet:
    """EASE, iALS and ItemKNN with recency."""
    found = {row["model"]: row["ndcg@10"] for row in AT_ONCE if row["dataset"] == dataset}
    values = (found["ease"], found["ials"], found["item_knn, recency"])
    return Snippet(f"{dataset} {{}}, {{}}, {{}}", values)


def requests_per_s(graph: str) -> tuple[float, ...]:
    return tuple(run["requests_per_s"] for run in SERVED["results"][graph])


TWO_TOWER = seeds(LEAVE_ONE_OUT, "two_tower", "ndcg@10")
TABLE = [
    Figures("benchmarks.baselines", tuple(map(at_once, ("ml-100k", "ml-1m", "ml-latest-small")))),
    Figures(
        "`recray evaluate ml-100k` |",
        (
            Snippet(
                "two-tower {} (three seeds {} to {})", (fmean(TWO_TOWER), min(TWO_TOWER), max(TWO_TOWER))
            ),
            Snippet("ItemKNN {}", (mean(LEAVE_ONE_OUT, "item_knn"),)),
            Snippet("popularity {}", (mean(LEAVE_ONE_OUT, "popularity"),)),
        ),
    ),
    Figures(
        "--models popularity item_knn two_tower ncf gat sasrec mamba s5 ss4rec",
        (
            Snippet("NCF {}, GAT {}", tuple(mean(SEQUENCE_100K, model) for model in ("ncf", "gat"))),
            Snippet(
                "SASRec {}, SS4Rec {} (Mamba alone {}, S5 alone {})",
                tuple(mean(SEQUENCE_100K, model) for model in ("sasrec", "ss4rec", "mamba", "s5")),
            ),
            Snippet(
                "RecBole's NeuMF {} and SASRec {} (one seed)",
                tuple(mean(SEQUENCE_100K, f"recbole:{model}") for model in ("NeuMF", "SASRec")),
            ),
        ),
    ),
    Figures(
        "the same with `ml-1m`",
        (
            *(
                Snippet(f"{text} {{}} and {{}}", (mean(SEQUENCE_1M, row), mean(SEQUENCE_1M, row, "hit@10")))
                for text, row in (
                    ("SASRec", "sasrec"),
                    ("SS4Rec", "ss4rec"),
                    ("Mamba alone", "mamba"),
                    ("ItemKNN", "item_knn"),
                )
            ),
            Snippet("(NDCG@10 {} ", (gain(SEQUENCE_1M, "ss4rec", "sasrec"),)),
        ),
        not_kept=("[+0.0006, +0.0066]",),  # of paired users, which the file has not
    ),
    Figures(
        "one `ml-100k` epoch, 2 threads, beside RecBole's SASRec",
        (
            Snippet("RecBole's SASRec ({} s)", at(BENCH, "recbole_epoch_s")),
            Snippet("SASRec {} s ({} times faster)", at(BENCH, "sasrec_epoch_s", "sasrec_epoch_speedup")),
            Snippet("SS4Rec {} s ({} times)", at(BENCH, "ss4rec_epoch_s", "ss4rec_epoch_speedup")),
            Snippet(
                "in {} s and {} s instead of {} s",
                at(BENCH, "sasrec_to_quality_s", "ss4rec_to_quality_s", "recbole_two_epochs_s"),
            ),
        ),
    ),
    Figures(
        "scans, forward and backward",
        (
            Snippet(
                "selective scan {} ms, step by step {} ms ({} times)",
                at(BENCH, "selective_scan/recray_ms", "selective_scan/peer_ms", "selective_scan_speedup"),
            ),
            Snippet(
                "S5 {} ms, s5-pytorch {} ms ({} times)",
                at(BENCH, "s5_scan/recray_ms", "s5_scan/peer_ms", "s5_scan_speedup"),
            ),
        ),
    ),
    Figures(
        "recray train gbdt_ranker ml-1m",
        (
            Snippet("NDCG@10 of {} users", at(RANKED, "card/num_users")),
            Snippet(
                "retriever {}, with XGBoost {}", at(RANKED, "rows/0/ndcg@10/mean", "rows/1/ndcg@10/mean")
            ),
            Snippet("{} [{}, {}]", interval(RANKED["gain"])),
        ),
    ),
    Figures(
        "python -m benchmarks.serving",
        (
            Snippet("fused on Ray Serve {}, {}, {}", requests_per_s("fused")),
            Snippet("bare FastAPI process {}, {}, {}", requests_per_s("bare")),
            Snippet("naive three-deployment graph {}, {}, {}", requests_per_s("naive")),
        ),
    ),
    Figures(
        "python -m benchmarks.training",
        (
            Snippet(
                "{} on Ray Train, {} in this process; paired median ratio {}",
                at(result("training"), "ray_samples_per_s", "local_samples_per_s", "ray_vs_local"),
            ),
        ),
    ),
    Figures(
        "python -m benchmarks.dlrm",
        (
            Snippet(
                "{} with TorchRec tables and {} with plain PyTorch's",
                at(result("dlrm"), "ray_torchrec_samples_per_s", "ray_torch_samples_per_s"),
            ),
            Snippet(
                "under torchrun {} ({} and {} of it",
                (
                    *at(result("dlrm"), "raw_torchrec_samples_per_s", "ray_vs_raw_torchrec"),
                    result("dlrm")["ray_torch_samples_per_s"] / result("dlrm")["raw_torchrec_samples_per_s"],
                ),
            ),
        ),
        not_kept=("three earlier ones 0.92",),
    ),
    Figures(
        "python -m benchmarks.refit --continued",
        (
            Snippet("{} users on the last {} days", at(REFIT, "two_tower/users", "days")),
            Snippet(
                "instead +{} [+{}, +{}] in {} % of the time",
                (
                    *interval(REFIT["two_tower"]["continued"]["2 at 1"]["gain"]["recall@10"]),
                    100 * REFIT["two_tower"]["continued"]["2 at 1"]["cpu_share"],
                ),
            ),
            *(
                Snippet(
                    title + " {} and {}: +{} [+{}, +{}]",
                    (
                        *at(REFIT, f"{model}/selected/recall@10/mean", f"{model}/refitted/recall@10/mean"),
                        *interval(REFIT[model]["gain"]["recall@10"]),
                    ),
                )
                for title, model in (("two-tower", "two_tower"), ("ItemKNN", "item_knn"))
            ),
        ),
    ),
    Figures(
        "python -m benchmarks.refit_rows",
        (
            Snippet("{} generated clicks", at(REFIT_ROWS, "rows")),
            Snippet("selected one's {}", at(REFIT_ROWS, "selected/logloss/mean")),
            Snippet("the validation part {} [{}, {}]", interval(REFIT_ROWS["gain"]["logloss"])),
            Snippet(
                "that part alone {} [{}, {}] in {} % of the time",
                (
                    *interval(REFIT_ROWS["continued"]["1 at 0.1"]["gain"]["logloss"]),
                    100 * REFIT_ROWS["continued"]["1 at 0.1"]["cpu_share"],
                ),
            ),
        ),
    ),
    Figures(
        "python -m benchmarks.streaming",
        (
            Snippet("{} Criteo-format rows", at(result("streaming"), "rows_trained")),
            Snippet(
                "{} MiB per worker after 2 M rows, {} MiB at the end",
                at(result("streaming"), "mib_at_2m_rows", "mib_at_the_end"),
            ),
        ),
    ),
    Figures(
        "AUC of ML-1M ratings",
        (
            Snippet("DLRM {}", at(CLICKS, "clicks/dlrm/auc/mean")),
            Snippet(
                "logistic regression {} ({} [{}, {}])",
                at(CLICKS, "clicks/logistic_regression/auc/mean")
                + interval(CLICKS["clicks"]["auc_over_logistic_regression"]),
            ),
            Snippet(
                "XGBoost {} ({} [{}, {}])",
                at(CLICKS, "clicks/xgboost/auc/mean") + interval(CLICKS["clicks"]["auc_over_xgboost"]),
            ),
        ),
    ),
    Figures(
        "LambdaRank and BCE by the same network",
        (
            Snippet("{} and {}: ", at(CLICKS, "lists/lambdarank/ndcg@10/mean", "lists/bce/ndcg@10/mean")),
            Snippet("{} [{}, {}]", interval(CLICKS["lists"]["lambdarank_over_bce_ndcg@10"])),
        ),
    ),
    Figures(
        "LightGBM's ranking example",
        (
            Snippet("LambdaRank by DLRM {}", at(CLICKS, "queries/lambdarank/ndcg@10/mean")),
            Snippet("by LightGBM {}", at(CLICKS, "queries/lightgbm/ndcg@10/mean")),
            Snippet("difference {} [{}, {}]", interval(CLICKS["queries"]["over_lightgbm"]["ndcg@10"])),
        ),
    ),
    Figures(
        "--models popularity item_knn decoder",
        (
            Snippet("decoder {} ", (mean(GENERATIVE, "decoder"),)),
            Snippet("ItemKNN {} [{}, {}]", interval(result(GENERATIVE)["rows"][1]["ndcg@10"])),
            Snippet("difference {} ", (gain(GENERATIVE, "decoder", "item_knn"),)),
            Snippet(
                "Hit@10 {} and {}, {} ",
                (
                    mean(GENERATIVE, "decoder", "hit@10"),
                    mean(GENERATIVE, "item_knn", "hit@10"),
                    gain(GENERATIVE, "decoder", "item_knn", "hit@10"),
                ),
            ),
        ),
        # Intervals over the users' means of three seeds, and of paired users: the file has runs only.
        not_kept=("[0.0588, 0.0814]", "[-0.0068, +0.0225]", "[+0.0021, +0.0495]"),
    ),
    Figures(
        "python -m benchmarks.semantic_ids",
        (
            *(
                Snippet(f"{text} {{}} %, {{}} %", tuple(100 * v for v in at(CODES, *paths)))
                for text, paths in (
                    (text, (f"rows/{row}/usage/low", f"rows/{row}/collision_rate/mean"))
                    for text, row in (
                        ("rotation trick", "rotation"),
                        ("straight-through", "ste"),
                        ("Sinkhorn", "sinkhorn"),
                    )
                )
            ),
            Snippet(
                "Gumbel {} to {} %, {} %",
                tuple(
                    100 * value
                    for value in at(
                        CODES,
                        "rows/gumbel/usage/low",
                        "rows/gumbel/usage/high",
                        "rows/gumbel/collision_rate/mean",
                    )
                ),
            ),
        ),
    ),
    Figures(
        "python -m benchmarks.generative",
        (
            Snippet(
                "{}, the same model without cache and with a scan of all codes {} ({} times; {} times where",
                at(
                    GENERATED["decode"]["one request"],
                    "recray_ms",
                    "no_cache_ms",
                    "speedup",
                    "speedup_over_encode_once",
                ),
            ),
            Snippet(
                "16 requests at once {} and {}",
                at(GENERATED["decode"]["batch of 16"], "recray_ms", "no_cache_ms"),
            ),
            Snippet("over HTTP p50 {}, p95 {}", at(GENERATED["http"], "p50_ms", "p95_ms")),
        ),
    ),
    Figures(
        "training on jagged rows of Beauty's lengths",
        (
            Snippet(
                "{} and {} sequences/s ({} times)",
                at(
                    GENERATED["train"]["one target, Beauty's lengths"],
                    "sequences_per_s",
                    "padded_sequences_per_s",
                    "speedup",
                ),
            ),
            Snippet(
                "one pass {} targets/s",
                at(GENERATED["train"]["every position, Beauty's lengths"], "targets_per_s"),
            ),
        ),
    ),
    Figures("python -m benchmarks.prepare", (), not_kept=("11.3 s", "1.9 GiB")),
    Figures(
        "python -m benchmarks.guardrails",
        (
            *(
                Snippet(f"{name} {{}} s", at(JUDGED, f"planted/{name}/seconds/median"))
                for name in ("1 % errors", "30 % slower", "20 % fewer clicks")
            ),
            Snippet(
                "equal arms stopped in {} of {} runs", at(JUDGED, "equal_arms/stopped", "equal_arms/runs")
            ),
        ),
    ),
    Figures("python -m benchmarks.evaluation", (), not_kept=("0.27 s",)),
]
NUMBER = r"([+-]?\d[\d,]*(?:\.\d+)?)"
WORDS_WITH_DIGITS = re.compile(r"(?:NDCG|Hit)@10|S5|SS4Rec|s5-pytorch|p50|p95|2 M|16 requests")


def row_of(figures: Figures) -> str:
    [row] = [row for row in ROWS if figures.row in row]
    return row


@pytest.mark.parametrize("figures", TABLE, ids=lambda figures: figures.row)
def test_figures_are_those_of_the_result_files(figures: Figures) -> None:
    """Each printed figure is its value, rounded to the digits that are printed."""
    row = row_of(figures)
    for snippet in figures.kept:
        found = re.search(NUMBER.join(map(re.escape, snippet.text.split("{}"))), row)
        assert found, f"{snippet.text!r} is not in {row}"
        for printed, value in zip(found.groups(), snippet.values, strict=True):
            decimals = len(printed.partition(".")[2])
            near = pytest.approx(value, rel=0, abs=0.5 * 10**-decimals + 1e-9)
            assert float(printed.replace(",", "")) == near, f"{snippet.text!r} in {row}"


@pytest.mark.parametrize("figures", TABLE, ids=lambda figures: figures.row)
def test_no_figure_of_the_result_is_left_out(figures: Figures) -> None:
    """Whatever has digits in the last column comes from a file, or is said not to be kept."""
    left = row_of(figures).split("|")[-2]
    for text in figures.not_kept:
        assert text in left
        left = left.replace(text, "")
    for snippet in figures.kept:
        left = re.sub(NUMBER.join(map(re.escape, snippet.text.split("{}"))), "", left, count=1)
    assert not re.search(r"\d", WORDS_WITH_DIGITS.sub("", left)), left


def test_every_row_is_compared() -> None:
    assert sorted(map(row_of, TABLE)) == sorted(ROWS)

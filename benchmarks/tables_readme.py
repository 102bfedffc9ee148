"""The rows of the README's table of numbers: what was asked, and what came out."""

from typing import Any, NamedTuple

from benchmarks.tables_results import (
    Evaluated,
    markdown,
    of_seeds,
    percent,
    result,
    with_bounds,
)


class Row(NamedTuple):
    command: str  # empty: that of the row above
    what: str
    found: str


def numbers() -> str:
    rows = [*_lists(), *_sequence(), *_speed(), *_again(), *_rows(), *_generative(), *_rollouts()]
    return markdown((*Row._fields[:2], "result"), rows)


def short() -> str:
    """Four figures for who looks in: lists, ranking, serving, rollouts."""
    found = {row.what: row for row in (*_lists(), *_sequence(), *_speed(), *_rollouts())}
    beginnings = (
        "NDCG@10, leave-one-out",
        "NDCG@10 of 1,007 users",
        "requests/s at 1, 8",
        "simulated rollouts",
    )
    rows = [next(found[what] for what in found if what.startswith(one)) for one in beginnings]
    return markdown((*Row._fields[:2], "result"), rows)


def _lists() -> list[Row]:
    plain, many, larger = map(Evaluated, ("ml-100k-leave-one-out", "ml-100k-sequence", "ml-1m-sequence"))
    at_once = {(row["dataset"], row["model"]): row["ndcg@10"] for row in result("baselines")}
    names = ("ease", "ials", "item_knn, recency")
    by_data = [
        f"{dataset} {', '.join(f'{at_once[dataset, name]:.4f}' for name in names)}"
        for dataset in ("ml-100k", "ml-1m", "ml-latest-small")
    ]

    def both(model: str) -> str:
        return f"{larger.mean(model):.4f} and {larger.mean(model, 'hit@10'):.4f}"

    return [
        Row(
            "`recray evaluate ml-100k`",
            "NDCG@10, leave-one-out, full ranking, seen items removed",
            f"two-tower {of_seeds(plain.seeds('two_tower'))}, ItemKNN {plain.mean('item_knn'):.4f}, "
            f"popularity {plain.mean('popularity'):.4f}",
        ),
        Row(
            "`recray evaluate ml-100k --models popularity item_knn two_tower ncf gat sasrec mamba s5 ss4rec "
            "--beside neumf.json sasrec.json`",
            "NDCG@10, the same protocol, three seeds",
            f"NCF {many.mean('ncf'):.4f}, GAT {many.mean('gat'):.4f}, SASRec {many.mean('sasrec'):.4f}, "
            f"SS4Rec {many.mean('ss4rec'):.4f} (Mamba alone {many.mean('mamba'):.4f}, S5 alone "
            f"{many.mean('s5'):.4f}); RecBole's NeuMF {many.mean('recbole:NeuMF'):.4f} and SASRec "
            f"{many.mean('recbole:SASRec'):.4f} (one seed)",
        ),
        Row(
            "the same with `ml-1m`",
            "NDCG@10 and Hit@10 (reconstructed timestamps), 5 epochs, about 8 minutes of one core a run",
            f"SASRec {both('sasrec')}, SS4Rec {both('ss4rec')} (three seeds each, NDCG@10 "
            f"{larger.gain('ss4rec', 'sasrec'):+.4f}), Mamba alone {both('mamba')} (one seed), ItemKNN "
            f"{both('item_knn')}",
        ),
        Row(
            "`python -m benchmarks.baselines`",
            "NDCG@10, the same protocol: EASE with recency, iALS, ItemKNN with recency "
            "([baselines.md](../baselines.md))",
            "; ".join(by_data),
        ),
    ]


def _sequence() -> list[Row]:
    speed, ranked = result("sequence"), result("ml-1m-ranking")
    selective, s5 = speed["selective_scan"], speed["s5_scan"]
    retriever, ranker = (row["ndcg@10"]["mean"] for row in ranked["rows"])
    return [
        Row(
            "`python -m benchmarks.sequence`",
            f"one `ml-100k` epoch, {speed['threads']} threads, beside RecBole's SASRec "
            f"({speed['recbole_epoch_s']:.1f} s)",
            f"SASRec {speed['sasrec_epoch_s']:.2f} s ({speed['sasrec_epoch_speedup']:.0f} times faster), "
            f"SS4Rec {speed['ss4rec_epoch_s']:.2f} s ({speed['ss4rec_epoch_speedup']:.0f} times); RecBole's "
            f"validation NDCG@10 after two epochs in {speed['sasrec_to_quality_s']:.1f} s and "
            f"{speed['ss4rec_to_quality_s']:.1f} s instead of {speed['recbole_two_epochs_s']:.0f} s",
        ),
        Row(
            "",
            "scans, forward and backward",
            f"selective scan {selective['recray_ms']:.0f} ms, step by step {selective['peer_ms']:,.0f} ms "
            f"({speed['selective_scan_speedup']:.0f} times); S5 {s5['recray_ms']:.0f} ms, s5-pytorch "
            f"{s5['peer_ms']:.0f} ms ({speed['s5_scan_speedup']:.1f} times)",
        ),
        Row(
            "`recray train two_tower ml-1m --data.split global-time`, then `recray train gbdt_ranker ml-1m "
            "--data.split global-time`",
            f"NDCG@10 of {ranked['card']['num_users']:,} users (reconstructed timestamps)",
            f"retriever {retriever:.4f}, with XGBoost {ranker:.4f}: {with_bounds(ranked['gain'], '+')}",
        ),
    ]


def _speed() -> list[Row]:
    served, training, dlrm = result("serving")["results"], result("training"), result("dlrm")

    def at_clients(graph: str) -> str:
        return ", ".join(f"{run['requests_per_s']:.0f}" for run in served[graph])

    raw = dlrm["raw_torchrec_samples_per_s"]
    return [
        Row(
            "`python -m benchmarks.serving`",
            "requests/s at 1, 8, 32 clients, 62,000 items, no errors",
            f"fused on Ray Serve {at_clients('fused')}; bare FastAPI process {at_clients('bare')}; naive "
            f"three-deployment graph {at_clients('naive')}",
        ),
        Row(
            "`python -m benchmarks.training`",
            "samples/s of one worker, median of three rounds",
            f"{training['ray_samples_per_s']:,.0f} on Ray Train, {training['local_samples_per_s']:,.0f} in "
            f"this process; paired median ratio {training['ray_vs_local']:.3f}",
        ),
        Row(
            "`python -m benchmarks.dlrm`",
            "samples/s, 2 workers, 8 tables of 2 M × 32, batch 2,048",
            f"under Ray Train {dlrm['ray_torchrec_samples_per_s']:,.0f} with TorchRec tables and "
            f"{dlrm['ray_torch_samples_per_s']:,.0f} with plain PyTorch's; TorchRec's own loop under "
            f"torchrun {raw:,.0f} ({dlrm['ray_vs_raw_torchrec']:.2f} and "
            f"{dlrm['ray_torch_samples_per_s'] / raw:.2f} of it)",
        ),
    ]


def _again() -> list[Row]:
    refit, of_rows, streamed = result("refit"), result("refit_rows"), result("streaming")
    towers, knn = refit["two_tower"], refit["item_knn"]
    onward, rows_onward = towers["continued"]["2 at 1"], of_rows["continued"]["1 at 0.1"]

    def recalls(model: dict[str, Any]) -> str:
        before, after = (model[name]["recall@10"]["mean"] for name in ("selected", "refitted"))
        return f"{before:.4f} and {after:.4f}: {with_bounds(model['gain']['recall@10'], '+')}"

    return [
        Row(
            "`python -m benchmarks.refit --continued 1:0.1 2:0.1 2:0.3 2:1`",
            f"recall@10 of {towers['users']} users on the last {refit['days']:.0f} days of the generated "
            "data, which no training saw (three seeds): selected on a global-time split, and then trained "
            "again on everything before",
            f"two-tower {recalls(towers)}, two epochs on from the selected weights instead "
            f"{with_bounds(onward['gain']['recall@10'], '+')} in {percent(onward['cpu_share'])} % of the "
            f"time; ItemKNN {recalls(knn)}",
        ),
        Row(
            "`python -m benchmarks.refit_rows --dataset synthetic --continued 1:0.1 1:0.3 1:1 2:0.3`",
            f"logloss of a DLRM on {of_rows['rows']:,} generated clicks that no training saw (three seeds), "
            f"against the selected one's {of_rows['selected']['logloss']['mean']:.4f}",
            f"trained again with the validation part {with_bounds(of_rows['gain']['logloss'], '+')}, on with "
            f"that part alone {with_bounds(rows_onward['gain']['logloss'], '+')} in "
            f"{percent(rows_onward['cpu_share'])} % of the time",
        ),
        Row(
            "`python -m benchmarks.streaming`",
            f"{streamed['rows_trained']:,} Criteo-format rows through Ray Data into 2 workers",
            f"{streamed['mib_at_2m_rows']:.0f} MiB per worker after 2 M rows, "
            f"{streamed['mib_at_the_end']:.0f} MiB at the end; each row once",
        ),
    ]


def _rows() -> list[Row]:
    found = result("click_quality")
    clicks, lists, queries = found["clicks"], found["lists"], found["queries"]

    def auc(peer: str) -> str:
        return f"{clicks[peer]['auc']['mean']:.4f} ({with_bounds(clicks[f'auc_over_{peer}'], '+')})"

    return [
        Row(
            "`python -m benchmarks.click_quality`",
            "AUC of ML-1M ratings of at least 4, test in time, three seeds (reconstructed timestamps)",
            f"DLRM {clicks['dlrm']['auc']['mean']:.4f}, logistic regression {auc('logistic_regression')}, "
            f"XGBoost {auc('xgboost')}",
        ),
        Row(
            "",
            "NDCG@10 of each user's list, LambdaRank and BCE by the same network",
            f"{lists['lambdarank']['ndcg@10']['mean']:.4f} and {lists['bce']['ndcg@10']['mean']:.4f}: "
            f"{with_bounds(lists['lambdarank_over_bce_ndcg@10'], '+')}",
        ),
        Row(
            "",
            "NDCG@10 of LightGBM's ranking example, 50 test queries",
            f"LambdaRank by DLRM {queries['lambdarank']['ndcg@10']['mean']:.4f}, by LightGBM "
            f"{queries['lightgbm']['ndcg@10']['mean']:.4f}; difference "
            f"{with_bounds(queries['over_lightgbm']['ndcg@10'], '+')}",
        ),
    ]


def _generative() -> list[Row]:
    lists, codes, speed = (
        Evaluated("ml-100k-generative"),
        result("semantic_ids")["rows"],
        result("generative"),
    )
    one, many = (speed["decode"][name] for name in ("one request", "batch of 16"))
    jagged, every = (speed["train"][f"{name}, Beauty's lengths"] for name in ("one target", "every position"))
    straight = {"rotation": "rotation trick", "ste": "straight-through", "sinkhorn": "Sinkhorn"}
    usage = [
        f"{title} {percent(codes[name]['usage']['low'])} %, "
        f"{percent(codes[name]['collision_rate']['mean'], 2)} %"
        for name, title in straight.items()
    ]
    gumbel = codes["gumbel"]
    return [
        Row(
            "`recray evaluate ml-100k --models popularity item_knn decoder`",
            "NDCG@10, protocol of the first line, on residual k-means codes",
            f"decoder {of_seeds(lists.seeds('decoder'))}, ItemKNN {with_bounds(lists.interval('item_knn'))}; "
            f"difference {lists.gain('decoder', 'item_knn'):+.4f}; Hit@10 "
            f"{lists.mean('decoder', 'hit@10'):.4f} and {lists.mean('item_knn', 'hit@10'):.4f}, "
            f"{lists.gain('decoder', 'item_knn', 'hit@10'):+.4f}",
        ),
        Row(
            "`python -m benchmarks.semantic_ids`",
            "amazon-beauty, 3 × 256 codes, three seeds: usage of the worst level; items that share "
            "their codes",
            f"{'; '.join(usage)}; Gumbel {percent(gumbel['usage']['low'])} to "
            f"{percent(gumbel['usage']['high'])} %, {percent(gumbel['collision_rate']['mean'], 1)} %",
        ),
        Row(
            "`python -m benchmarks.generative`",
            "width 384, 6 heads, 4 + 4 layers, 12,101 items, histories of 20, 10 beams: "
            "milliseconds a request",
            f"{one['recray_ms']:.0f}, the same model without cache and with a scan of all codes "
            f"{one['no_cache_ms']:.0f} ({one['speedup']:.1f} times; {one['speedup_over_encode_once']:.1f} "
            f"times where it encodes once); 16 requests at once {many['recray_ms']:.0f} and "
            f"{many['no_cache_ms']:,.0f}; over HTTP p50 {speed['http']['p50_ms']:.0f}, p95 "
            f"{speed['http']['p95_ms']:.0f}",
        ),
        Row(
            "",
            "training on jagged rows of Beauty's lengths against the same model on padded ones",
            f"{jagged['sequences_per_s']:.0f} and {jagged['padded_sequences_per_s']:.0f} sequences/s "
            f"({jagged['speedup']:.1f} times); every position in one pass {every['targets_per_s']:.0f} "
            "targets/s",
        ),
    ]


def _rollouts() -> list[Row]:
    found = result("guardrails")
    names = ("1 % errors", "30 % slower", "20 % fewer clicks")
    seconds = [f"{name} {found['planted'][name]['seconds']['median']:.0f} s" for name in names]
    equal = found["equal_arms"]
    return [
        Row(
            "`python -m benchmarks.guardrails`",
            "simulated rollouts, users who come back, 50 requests/s: verdicts, and when (median)",
            f"{', '.join(seconds)}; equal arms stopped in {equal['stopped']} of {equal['runs']} runs",
        )
    ]

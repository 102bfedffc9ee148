"""Tables of the pages about serving: rules, faults, canaries."""

from statistics import median
from typing import Any

from benchmarks.tables_results import bounds, markdown, result

FAULTS = {
    "replica": "a replica",
    "ingress": "HAProxy",
    "ingress_actor": "its actor",
    "controller": "Serve's controller",
    "redis": "Redis, 5 s",
    "store_gone": "the store gone, 5 s",
    "store_read_only": "… read-only",
    "store_damaged": "… every manifest cut in half",
    "disk_full": "no byte free for store, Redis and logs, 5 s",
    "gcs": "GCS",
    "raylet": "raylet",
    "sigterm": "SIGTERM, 32 clients: s until it has ended",
}
PLANTED = {
    "empty": "a catalogue cut to 100 items, all of which 5 % of the requests exclude: empty answers",
    "ratio": "a third of the canary's users do not get through",
    "slower": "a ranker of 900 trees in place of 30",
    "slower 1.3": "as many trees as take 1.3 times as long",
    "clicks": "clicked 0.8 times as often, at a rate of .2",
    "equal": "nothing (`least_s` 120)",
}
VERDICTS = {"refuse": "rolled back", "hold": "held", "promote": "promoted"}


def rules() -> str:
    """What each rule does to the lists."""
    metrics = ("ndcg@10", "coverage@10", "diversity@10")
    rows = [
        [title, *(_thousandths(found[metric]) for metric in metrics)]
        for title, found in result("rules")["rules"].items()
    ]
    return markdown(["rule", "NDCG@10", *metrics[1:]], rows)


def kills() -> str:
    """What clients notice of each fault, in all and in the worst of its times."""
    rows = []
    for name, title in FAULTS.items():
        found = result("kills")[name]
        failed = f"{sum(found['failed']):,} of {sum(found['asked']):,}"
        silent = _median_and_most(found["silent_s"] if name != "sigterm" else found["ended_s"])
        noticed = f"{max(max(each) for each in found['noticed_s']):.1f}" if "noticed_s" in found else ""
        left = f"{sum(found['left_over'])}" if "left_over" in found else ""
        rows.append([title, failed, silent, noticed, left, _said(found, "/ready"), _said(found, "/health")])
    head = ["20 times each", "failed", "s without an answer: median, most", "noticed within, s", "left over"]
    return markdown([*head, "`/ready`", "`/health`"], rows)


def canaries() -> str:
    """What became of each planted fault; of the factor 1.3 a run of its own."""
    cases = {**result("canaries")["cases"]}
    cases["slower 1.3"] = result("canaries_slower")["cases"]["slower 1.3"]
    rows = []
    for name, title in PLANTED.items():
        found = cases[name]
        p50 = found["p50_ms"]
        slower = f"{p50['canary']:.2f}, {p50['baseline']:.2f}" if name.startswith("slower") else ""
        users = f"{sum(found['users'].values()):,}"
        rows.append([title, VERDICTS[found["verdict"]], f"{found['s']:.0f}", users, slower])
    return markdown(
        ["planted", "what became of it", "seconds until then", "users", "p50, ms: canary, baseline"], rows
    )


def costs() -> str:
    """What a small machine does, for whoever plans with it, and the page that says how it was taken."""
    served, log, streamed = (
        result("serving")["results"]["fused"],
        result("events")["speed"],
        result("streaming"),
    )
    replica, moves, scaled = result("kills")["replica"], result("rollouts"), result("scaling")
    events = log["log, 32 clients"]
    rows = [
        [
            "answers, 62,000 items, all stages in one replica",
            ", ".join(f"{run['requests_per_s']:.0f}/s of {run['clients']}" for run in served) + " clients",
            "[numbers](numbers.md)",
        ],
        [
            "answers while each is taken down, of those without a log",
            f"{result('recording')['recorded_vs_not']:.2f} times",
            "[events](../events.md)",
        ],
        [
            "events, on the disk before they are acknowledged",
            f"{events['events_per_s']:,.0f}/s of 32 threads (p95 {events['p95_ms']:.0f} ms)",
            "[events](../events.md)",
        ],
        [
            f"{streamed['rows_trained']:,} rows to train on",
            f"{streamed['rows_per_s']:,}/s into 2 workers, {streamed['mib_at_the_end']} MiB each at the end",
            "[numbers](numbers.md)",
        ],
        [
            "two nodes instead of one process, two-tower",
            f"{scaled['efficiency']:.2f} of twice as fast",
            "[cluster](../cluster.md)",
        ],
        [
            "a promotion or a rollback is followed",
            f"within {max(moves['most_s'][kind] for kind in ('promote', 'rollback')):.1f} s; "
            f"{moves['failed']} of {moves['asked']:,} requests failed meanwhile",
            "[traffic](../traffic.md)",
        ],
        [
            "a replica of two is killed",
            f"{max(replica['silent_s']):.1f} s without an answer at most; {sum(replica['failed'])} of "
            f"{sum(replica['asked']):,} requests failed",
            "[serving](../serving.md)",
        ],
    ]
    return markdown(["what", "measured on two cores", "page"], rows)


def _said(found: dict[str, Any], path: str) -> str:
    """What it answered, the most frequent first; those that are one in a hundred at most are left out."""
    counts: dict[str, int] = {}
    for answer, times in found["said"].get(path, {}).items():
        words = answer.split()
        said = " ".join(words[: 2 if words[-1:] == ["ok"] or words[1:2] == ["degraded"] else 1])
        counts[said] = counts.get(said, 0) + times
    least = sum(counts.values()) / 100
    return ", ".join(said for said, n in sorted(counts.items(), key=lambda one: -one[1]) if n > least)


def _median_and_most(seconds: list[float]) -> str:
    return ", ".join(f"{s:.1f}" if s < 10 else f"{s:.0f}" for s in (median(seconds), max(seconds)))


def _thousandths(found: dict[str, float]) -> str:
    return f"{found['mean']:.3f} {bounds(found, decimals=3)}"


def chaos() -> str:
    """What a training on several nodes survives."""
    rows = [
        [
            found["what"],
            f"{found['seconds_to_go_on']:.0f}",
            "equal, bit for bit" if found["off"] == 0 else f"off by {found['off']:.0e}",
        ]
        for found in result("chaos").values()
    ]
    head = ["what happens in the middle of an epoch", "seconds until the run goes on", "final weights"]
    return markdown(head, rows)

"""Tables of the handbook's pages."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.tables_results import Evaluated, markdown, of_seeds, percent, result, with_bounds

NAMES = {"ease": "EASE", "ials": "iALS", "mamba": "Mamba alone", "ss4rec, no waits": "SS4Rec without waits"}
MODELS = {
    "item_knn": "ItemKNN",
    "two_tower": "two-tower",
    "ncf": "NCF",
    "gat": "GAT",
    "sasrec": "SASRec",
    "mamba": "Mamba alone",
    "s5": "S5 alone",
    "ss4rec": "SS4Rec",
    "recbole:NeuMF": "RecBole's NeuMF",
    "recbole:SASRec": "RecBole's SASRec",
}
LEVELS = ("slight", "clear", "gross")
PLANTED = {
    "mean": "a feature's mean, by 0.2, 0.5, 1.5 standard deviations",
    "spread": "a price's spread, ×1.15, 1.5, 3",
    "missing values": "missing values, +5, 15, 50 %",
    "read as zero": "read as zero, for 10, 30, 100 % of users",
    "categories": "a category of users, +10, 30, 80 % of them",
    "new items": "items never learnt, +2, 6, 30 %",
    "new users": "users never learnt, +3, 10, 40 %",
    "score": "score, by 0.15, 0.4, 1.5",
    "popular items": "the 100 most popular items, +5, 15, 50 % of rows",
    "vectors of items": "one kind of item, for 15, 40, 100 % of a user's own",
    "coverage": "one item in ten, +10, 30, 80 % of rows",
    "fallbacks": "fallbacks, +2, 8, 40 %",
}


def baselines(name: str, bases: Sequence[str]) -> str:
    """NDCG@10 with its interval, paired differences to some models with their p-values, and what it took."""
    rows = []
    for row in result(name):
        over = [_over(row, base) for base in bases]
        reached = with_bounds({**row, "mean": row["ndcg@10"]})
        cost = [f"{row['seconds']:.0f}", f"{row['peak_gib']:.2f}"]
        rows.append([row["dataset"], row["model"], str(row["seeds"]), reached, *over, *cost])
    named = [f"over {NAMES[base]} (p)" for base in bases]
    return markdown(["data", "model", "seeds", "NDCG@10", *named, "seconds", "GiB"], rows)


def _over(row: Mapping[str, Any], base: str) -> str:
    """Results of before do not hold the interval of the difference."""
    if f"over_{base}" not in row:
        return ""
    ends = f" [{row[f'low_{base}']:+.4f}, {row[f'high_{base}']:+.4f}]" if f"low_{base}" in row else ""
    return f"{row[f'over_{base}']:+.4f}{ends} ({row[f'p_{base}']:.4f})"


def sequences(name: str) -> str:
    """Of one seed the interval over users; of more the mean and what seeds reached: their common interval is
    not in the file."""
    found, rows = Evaluated(name), []
    for model in dict.fromkeys(row["model"] for row in found.rows):
        seeds = len(found.seeds(model))
        cells = [
            with_bounds(found.interval(model, metric)) if seeds == 1 else of_seeds(found.seeds(model, metric))
            for metric in ("hit@10", "ndcg@10")
        ]
        rows.append((found.mean(model, "ndcg@10"), [MODELS.get(model, model), *cells]))
    return markdown(["model", "Hit@10", "NDCG@10"], [row for _, row in sorted(rows, key=lambda one: one[0])])


def which_model() -> str:
    """NDCG@10 of every retriever that was measured leave-one-out, whole catalogue, on public data; the best
    on the first of them comes first."""
    data = ("ml-100k", "ml-1m", "ml-latest-small")
    found: dict[str, dict[str, str]] = {}
    for name in ("ml-100k-sequence", "ml-1m-sequence", "ml-100k-generative"):
        evaluated = Evaluated(name)
        for model in dict.fromkeys(row["model"] for row in evaluated.rows):
            cells = found.setdefault(MODELS.get(model, model), {})
            cells.setdefault(name.rpartition("-")[0], _with_seeds(evaluated.seeds(model)))
    for row in (*result("baselines"), *result("ml-100k-retrievers")):
        title = row["model"].replace("item_knn", MODELS["item_knn"])
        cell = f"{row['ndcg@10']:.4f}" + (f" ({row['seeds']} seeds)" if row["seeds"] > 1 else "")
        found.setdefault(NAMES.get(title, title), {})[row["dataset"]] = cell
    order = sorted(found, key=lambda model: -float(found[model].get("ml-100k", "0").split()[0]))
    rows = [[model, *(found[model].get(name, "") for name in data)] for model in order]
    return markdown(["NDCG@10, leave-one-out, all items ranked", *data], rows)


def _with_seeds(values: Sequence[float]) -> str:
    mean = f"{sum(values) / len(values):.4f}"
    return f"{mean} ({len(values)} seeds)" if len(values) > 1 else mean


def small_clicks() -> str:
    """What models reach on a few thousand rows, and how far that is from logistic regression."""
    rows = []
    for name, found in result("small_clicks").items():
        for model, row in found["models"].items():
            over = row.get("over_logistic_regression", {})
            cells = [cell for metric in ("auc", "logloss") for cell in _beside(row[metric], over.get(metric))]
            rows.append([name, model, str(row["seeds"]), *cells])
    return markdown(["rows", "model", "seeds", "AUC", "over it", "logloss", "over it"], rows)


def _beside(found: Mapping[str, float], over: Mapping[str, float] | None) -> list[str]:
    return [with_bounds(found), with_bounds(over, "+") if over else ""]


def experiment() -> str:
    """What each model of an experiment reached, the best first, and whom the best one is told from."""
    found = result("recbole_protocol_small")
    models = sorted(found["models"], key=lambda row: -row["mean"])
    p_values = {frozenset((pair["first"], pair["second"])): pair["p_value"] for pair in found["pairs"]}
    rows = []
    for row in models:
        p_value = p_values.get(frozenset((models[0]["model"], row["model"])))
        beside = "" if p_value is None else f"{p_value:.2g}"
        took = [f"{row['seconds']:.0f}", f"{row['peak_gib']:.2f}"]
        rows.append([row["model"], str(row["seeds"]), with_bounds(row), beside, *took])
    head = ["model", "seeds", found["metric"], f"p of {models[0]['model']} over it (Holm)"]
    return markdown([*head, "seconds a run", "GiB"], rows)


def gates() -> str:
    """Alarms of a gate where nothing was lost, and what it says of a loss."""
    rows = []
    for name, found in result("gates_planted")["gates"].items():
        said = "fails" if found["caught"] else "holds"
        rows.append(
            [name, f"{found['alarms']} of {found['times']}", f"{percent(found['change'], 1)} %: {said}"]
        )
    return markdown(["gate", "alarms without a loss", "with one"], rows)


def searches() -> str:
    """Of each search what validation chose, beside what it started from, on the test part."""
    rows = []
    for name, unit in (("search-two_tower-ml-100k", "epochs"), ("search-gbdt_ranker-ml-100k", "trees")):
        found = result(name)
        scores = {trial["number"]: trial["score"] for trial in found["trials"]}
        ended = [trial["status"] for trial in found["trials"]]
        how = (
            f"{ended.count('finished')} finished, {ended.count('stopped')} stopped; {found['epochs']} {unit}"
        )
        chosen = f"{scores[found['search']['trial']]:.4f}, {scores[0]:.4f}"
        test = found["test"]
        sides = [_triple(test[side]["ndcg@10"]) for side in ("best", "preset")]
        gain = _triple(test["best - preset"]["ndcg@10"], "+")
        rows.append([name.removeprefix("search-"), how, chosen, *sides, gain])
    head = ["search", "trials", "validation: winner, preset", "test: winner", "preset", "winner - preset"]
    return markdown(head, rows)


def killed_searches() -> str:
    """What was done twice where a search's driver was killed."""
    rows = [
        [
            name,
            *(f"{found[key]}" for key in ("kills", "trials", "records")),
            f"{found['epochs']} of {found['reported']}",
        ]
        for name, found in result("tuning_kills").items()
    ]
    head = ["search", "kills", "trials", "that had ended and were done again", "epochs reported twice"]
    return markdown(head, rows)


def rollouts() -> str:
    """What became of each planted fault."""
    titles = {
        "5 % empty answers": "5 % empty answers",
        "1 % errors": "1 % errors",
        "60 % in place of 50 %": "60 % of users in place of 50 %",
        "55 % in place of 50 %": "55 % in place of 50 %",
        "30 % slower": "30 % slower",
        "20 % fewer clicks": "20 % fewer clicks, at a rate of .2",
        "equal": "nothing",
    }
    planted = result("guardrails")["planted"]
    rows = []
    for name, title in titles.items():
        found = planted[name]
        verdicts = ", ".join(f"{verdict} {times}" for verdict, times in found["actions"].items())
        when = f"{found['seconds']['median']:,.0f} s, {found['users']['median']:,}"
        rows.append([title, verdicts, when])
    return markdown(["planted", "verdict", "median seconds, users, of 20"], rows)


def unchanged_streams() -> str:
    """Days with an alarm where nothing drifts, by ours and by three rules beside it."""
    rows = []
    for found in result("drift")["unchanged"]:
        peers = found["false_alarm_days_of_peers"]
        title = f"{found['answers_a_day']:,} answers a day"
        if found["wobble"]:
            title = (
                f"{found['answers_a_day']:,}, each day with a whim of {found['wobble']:g} standard deviations"
            )
        ours = f"**{found['false_alarm_days']}**"
        others = [f"{peers[name]:,}" for name in ("psi > 0.1", "psi > 0.2", "chi-square of rows")]
        rows.append([title, f"{found['days']:,}", ours, *others])
    head = ["unchanged streams", "days", "with an alarm", "PSI > 0.1", "PSI > 0.2"]
    return markdown([*head, "chi-square of rows, Bonferroni"], rows)


def planted_drift() -> str:
    """Hours until it is raised, or in how many runs it was."""
    by_traffic = result("drift")["found"]
    rows = [
        [title, *(_raised(found[name]) for found in by_traffic.values())] for name, title in PLANTED.items()
    ]
    return markdown([f"planted: {', '.join(LEVELS)}", "400 answers a day", "4,000 a day"], rows)


def _raised(found: Mapping[str, Any]) -> str:
    each = (found[level] for level in LEVELS)
    return ", ".join(
        f"{one['hours']:.0f}" if one["share"] == 1 else f"{percent(one['share'])} %" for one in each
    )


def _triple(found: list[float], sign: str = "") -> str:
    """Of a mean and its bounds."""
    return with_bounds(dict(zip(("mean", "low", "high"), found, strict=True)), sign)

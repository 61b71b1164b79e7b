"""Writes the golden values that the paired statistics are checked against.

    python3 -m venv venv && venv/bin/pip install numpy scipy statsmodels
    venv/bin/python make_stats_golden.py

Every value is computed by scipy or statsmodels. The data are drawn from a fixed seed.
"""

import json
import sys
from pathlib import Path

import numpy as np
import scipy
import statsmodels
from scipy.stats import binom, binomtest, bootstrap, norm, pearsonr, permutation_test
from scipy.stats._resampling import BootstrapResult
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

HERE = Path(__file__).parent / "stats"
# Of crate statistics, whose intervals of rates an evaluation shares with the canary.
RATES = Path(__file__).parents[3] / "statistics" / "tests" / "golden"
RNG = np.random.default_rng(20240607)


def write(name, value, here=HERE):
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}, statsmodels {statsmodels.__version__}"
    text = json.dumps({"made_with": versions, "cases": value}, separators=(",", ":"))
    (here / name).write_text(text.replace('},{', '},\n{') + "\n")


def micro_difference(candidate_hits, candidate_possible, baseline_hits, baseline_possible, axis=-1):
    """Difference of two ratios of sums; with all denominators 1, a difference of means."""
    candidate = candidate_hits.sum(axis=axis) / candidate_possible.sum(axis=axis)
    baseline = baseline_hits.sum(axis=axis) / baseline_possible.sum(axis=axis)
    return candidate - baseline


def binary_rows(n, candidate_rate, baseline_rate):
    ones = np.ones(n)
    candidate = (RNG.random(n) < candidate_rate).astype(float)
    baseline = (RNG.random(n) < baseline_rate).astype(float)
    return [candidate, ones, baseline, ones]


def f1_rows(n, candidate_rate, baseline_rate):
    """2·tp and 2·tp + fp + fn of two subjects on records of one to five fields."""
    fields = RNG.integers(1, 6, n)

    def subject(rate):
        hits = 2.0 * RNG.binomial(fields, rate)
        return hits, 2.0 * fields

    return [*subject(candidate_rate), *subject(baseline_rate)]


def bca(rows, indices):
    """The BCa interval over given resamples: scipy takes a finished distribution."""
    replicates = np.array([micro_difference(*(row[index] for row in rows)) for index in indices])
    finished = BootstrapResult(None, replicates, None)
    result = bootstrap(
        rows,
        micro_difference,
        paired=True,
        vectorized=True,
        n_resamples=0,
        bootstrap_result=finished,
        method="BCa",
    )
    return list(result.confidence_interval)


def made_up_resamples():
    shapes = [
        ("means", binary_rows(24, 0.8, 0.5)),
        ("one loss", [np.r_[np.ones(19), 0.0], np.ones(20), np.ones(20), np.ones(20)]),
        ("micro F1", f1_rows(18, 0.7, 0.4)),
    ]
    for name, rows in shapes:
        n = len(rows[0])
        indices = RNG.integers(0, n, (150, n))
        low, high = bca(rows, indices)
        yield {
            "name": name,
            "rows": np.array(rows).T.astype(int).tolist(),
            "resamples": indices.tolist(),
            "low": low,
            "high": high,
        }


def own_resamples():
    shapes = [
        ("means", binary_rows(120, 0.75, 0.6)),
        ("nearly perfect", binary_rows(200, 0.99, 0.985)),
        ("micro F1", f1_rows(150, 0.7, 0.65)),
    ]
    for name, rows in shapes:
        result = bootstrap(
            rows,
            micro_difference,
            paired=True,
            vectorized=True,
            n_resamples=200_000,
            batch=5_000,
            method="BCa",
            rng=np.random.default_rng(1),
        )
        yield {
            "name": name,
            "rows": np.array(rows).T.astype(int).tolist(),
            "value": float(micro_difference(*rows)),
            "low": float(result.confidence_interval.low),
            "high": float(result.confidence_interval.high),
        }


def mcnemars():
    for wins, losses in [(0, 0), (5, 0), (6, 0), (0, 6), (7, 1), (9, 1), (15, 5), (37, 23), (150, 151), (400, 300)]:
        table = [[3, wins], [losses, 4]]
        yield {"wins": wins, "losses": losses, "p": float(mcnemar(table, exact=True).pvalue)}


def detectable():
    for cases in [50, 100, 200, 300, 500, 1000]:
        for discordance in [0.1, 0.2, 0.3]:
            for alpha in [0.05, 0.025]:
                effect = (norm.isf(alpha) + norm.ppf(0.8)) / cases**0.5
                # statsmodels' own solver stops at four digits, so it is asked the other way round.
                power = NormalIndPower(ddof=0).power(
                    effect, cases, alpha, ratio=0, alternative="larger"
                )
                assert abs(power - 0.8) < 1e-9, power
                yield {
                    "cases": cases,
                    "discordance": discordance,
                    "alpha": alpha,
                    "difference": float(effect) * discordance**0.5,
                }


def clustered():
    """BCa over clusters: each drawn whole, its cases' sums entering as one row."""
    rng = np.random.default_rng(31)
    n, groups = 40, 12
    clusters = rng.integers(0, groups, n)
    fields = rng.integers(1, 6, n)
    rows = [2.0 * rng.binomial(fields, 0.7), 2.0 * fields, 2.0 * rng.binomial(fields, 0.5), 2.0 * fields]
    order = list(dict.fromkeys(clusters.tolist()))
    sums = [np.array([row[clusters == group].sum() for group in order]) for row in rows]
    indices = rng.integers(0, len(order), (150, len(order)))
    low, high = bca(sums, indices)
    yield {
        "name": "micro F1 in conversations",
        "rows": np.array(rows).T.astype(int).tolist(),
        "clusters": clusters.tolist(),
        "resamples": indices.tolist(),
        "low": low,
        "high": high,
    }


def percentiles():
    """The percentile bootstrap: quantiles of the replicates, interpolated linearly."""
    rng = np.random.default_rng(32)
    for size in [2, 3, 10, 151]:
        replicates = rng.normal(size=size)
        for at in [0.0, 0.025, 0.5, 0.9, 0.975, 1.0]:
            yield {"replicates": replicates.tolist(), "at": at, "value": float(np.quantile(replicates, at))}


def signs():
    """The exact sign test, which is the exact McNemar test, and its mid-p variant."""
    for wins, losses in [(0, 0), (1, 0), (5, 0), (3, 3), (7, 1), (15, 5), (37, 23), (150, 151), (400, 300)]:
        n, fewer = wins + losses, min(wins, losses)
        exact = binomtest(wins, n).pvalue if n else 1.0
        mid = min(1.0, 2 * binom.cdf(fewer, n, 0.5) - binom.pmf(fewer, n, 0.5))
        yield {"wins": wins, "losses": losses, "p": float(exact), "mid_p": float(mid)}


def holms():
    rng = np.random.default_rng(33)
    for size in [1, 2, 5, 40]:
        p = rng.random(size) ** 3
        yield {"p": p.tolist(), "corrected": multipletests(p, method="holm")[1].tolist()}
    tied = [0.01, 0.01, 0.04, 0.5]
    yield {"p": tied, "corrected": multipletests(tied, method="holm")[1].tolist()}


def permutations():
    rng = np.random.default_rng(34)

    def case(name, rows, resamples, tolerance):
        first, second = np.array(rows[:2]), np.array(rows[2:])
        n = len(rows[0])
        hits, possible = np.r_[first[0], second[0]], np.r_[first[1], second[1]]

        def statistic(a, b, axis=-1):
            a, b = a.astype(int), b.astype(int)
            return hits[a].sum(axis) / possible[a].sum(axis) - hits[b].sum(axis) / possible[b].sum(axis)

        result = permutation_test(
            (np.arange(n), np.arange(n) + n),
            statistic,
            permutation_type="samples",
            vectorized=True,
            n_resamples=resamples,
            rng=np.random.default_rng(2),
        )
        row = np.array(rows).T.tolist()
        return {"name": name, "rows": row, "p": float(result.pvalue), "tolerance": tolerance}

    def graded(n, lift):
        ones = np.ones(n)
        score = lambda shift: np.clip(np.round(rng.random(n) * 4 + shift) / 4, 0, 1)
        return [score(lift), ones, score(0), ones]

    def fields(n):
        of = rng.integers(1, 6, n)
        return [2.0 * rng.binomial(of, 0.8), 2.0 * of, 2.0 * rng.binomial(of, 0.5), 2.0 * of]

    yield case("means of 12, all assignments", graded(12, 1), np.inf, 0)
    yield case("means of 9, hardly apart", graded(9, 0), np.inf, 0)
    yield case("micro F1 of 11, all assignments", fields(11), np.inf, 0)
    # Four standard errors of 10,000 draws beside the 200,000 of scipy.
    yield case("means of 60, sampled", graded(60, 0.5), 200_000, 0.02)
    yield case("micro F1 of 40, sampled", fields(40), 200_000, 0.02)


def rates():
    for successes, n in [(0, 20), (1, 200), (45, 100), (570, 1000), (20, 20)]:
        for alpha in [0.05, 0.2]:
            lower, upper = proportion_confint(successes, n, alpha=alpha, method="wilson")
            yield {"treatment": [successes, n], "alpha": alpha, "lower": lower, "upper": upper}


def rate_differences():
    for treatment, control in [((45, 100), (60, 100)), ((570, 1000), (600, 1000)), ((0, 30), (3, 40)), ((50, 50), (49, 50))]:
        lower, upper = confint_proportions_2indep(
            *treatment, *control, compare="diff", method="newcomb", alpha=0.05
        )
        yield {"treatment": treatment, "control": control, "alpha": 0.05, "lower": lower, "upper": upper}


def kappas():
    """Person and judge on the same pairs: 0 is a, 1 is b, 2 a tie, 3 undecided (the judge alone)."""
    rng = np.random.default_rng(35)
    for size, noise in [(12, 0.2), (60, 0.35), (200, 0.6)]:
        person = rng.choice(3, size, p=[0.5, 0.35, 0.15])
        judge = np.where(rng.random(size) < noise, rng.choice(4, size), person)
        table = np.zeros((4, 4))
        np.add.at(table, (person, judge), 1)
        longer = rng.integers(-30, 30, size)
        preferred = np.array([1, -1, 0, 0])[judge]
        yield {
            "person": person.tolist(),
            "judge": judge.tolist(),
            "longer": longer.tolist(),
            "agreement": float((person == judge).mean()),
            "kappa": float(cohens_kappa(table, return_results=False)),
            "length_correlation": float(pearsonr(longer, preferred).statistic),
        }


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    write("bca_given_resamples.json", list(made_up_resamples()))
    write("bca_own_resamples.json", list(own_resamples()))
    write("mcnemar.json", list(mcnemars()))
    write("minimum_detectable.json", list(detectable()))
    write("bca_clusters.json", list(clustered()))
    write("percentile.json", list(percentiles()))
    write("sign.json", list(signs()))
    write("holm.json", list(holms()))
    write("permutation.json", list(permutations()))
    write("kappa.json", list(kappas()))
    RATES.mkdir(exist_ok=True)
    write("wilson.json", list(rates()), RATES)
    write("newcombe.json", list(rate_differences()), RATES)
    print(f"wrote {HERE}", file=sys.stderr)

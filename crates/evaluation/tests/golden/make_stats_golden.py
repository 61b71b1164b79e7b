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
from scipy.stats import bootstrap, norm
from scipy.stats._resampling import BootstrapResult
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import NormalIndPower

HERE = Path(__file__).parent / "stats"
RNG = np.random.default_rng(20240607)


def write(name, value):
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}, statsmodels {statsmodels.__version__}"
    text = json.dumps({"made_with": versions, "cases": value}, separators=(",", ":"))
    (HERE / name).write_text(text.replace('},{', '},\n{') + "\n")


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


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    write("bca_given_resamples.json", list(made_up_resamples()))
    write("bca_own_resamples.json", list(own_resamples()))
    write("mcnemar.json", list(mcnemars()))
    write("minimum_detectable.json", list(detectable()))
    print(f"wrote {HERE}", file=sys.stderr)

"""Re-analysis of published claims, against simulations and independently recomputed numbers."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from personagap import claims, figures, published
from personagap.figures import style


@pytest.fixture(scope="module")
def table():
    return claims.claims().set_index("claim")


def test_noise_floor_equals_the_recomputed_one():
    floors = (
        published.load("safety_utility")
        .query("experiment == 'pb_noise_floor'")
        .set_index("condition")["value"]
    )
    # Three runs on 285 items of MMLU and 939 of Do-Not-Answer, for two distributions of difficulty.
    found = [noise**0.5 for noise, _ in claims._design_noises("pb", 4)]
    for spread in ("Beta(1 1)", "Beta(.3 .2)"):
        expected = floors[f"dataset=joint MMLU-dev+DNA;item_p={spread}"]
        assert min(abs(np.array(found) - expected)) < 0.02


@pytest.mark.parametrize("true", [0.0, 1.0, 3.0])
def test_pb_interval_covers_the_true_pb(true):
    """Simulated studies of 31 identities, with two dimensions of unequal noise."""
    rng, errors = np.random.default_rng(0), np.array([1.37, 0.75]) * (31 / 30) ** 0.5
    effects = rng.normal(size=(2, 31))
    effects -= effects.mean(axis=1, keepdims=True)
    effects *= true / max((effects**2).mean(axis=1).sum() ** 0.5, 1e-12)
    observed = effects + rng.normal(size=(400, 2, 31)) * errors[:, None]
    observed -= observed.mean(axis=2, keepdims=True)
    pb = (observed**2).mean(axis=2).sum(axis=1) ** 0.5
    variances = errors**2
    noise = variances.sum() * 30 / 31, 30 * variances.sum() ** 2 / (variances**2).sum()
    ends = np.array([claims._pb_interval(value, noise) for value in pb])
    covered = ((ends[:, 0] <= true) & (true <= ends[:, 1])).mean()
    # Without an effect only the lower bound can miss.
    assert covered >= 0.93
    assert true == 0 or covered <= 0.985


def test_detectable_pb_has_a_power_of_80_percent():
    noise = (2.4, 45.0)
    true = claims._detectable_pb(noise)
    unit = noise[0] / noise[1]
    observed = stats.ncx2.rvs(noise[1], true**2 / unit, size=20_000, random_state=0)
    assert (observed > stats.chi2.ppf(0.95, noise[1])).mean() == pytest.approx(0.8, abs=0.01)


def test_win_rate_differences_equal_recomputed_numbers(table):
    """The paper's notes recompute z = 0.82 for 21.9 against 20.4, and a half-width of 2.6
    points.
    """
    row = table.loc["Other users' histories help more than one's own"]
    assert row["estimate"] / ((row["ci_high"] - row["ci_low"]) / 2 / 1.96) == pytest.approx(
        0.82, abs=0.01
    )
    numbers = claims.numbers().query("quantity == 'win_rate_vs_gpt4o' and estimate == 21.9")
    assert ((numbers["ci_high"] - numbers["ci_low"]) / 2).to_list() == pytest.approx(
        [2.6] * len(numbers), abs=0.05
    )


def test_difference_interval_uses_the_design_of_each_number(table):
    """The best zero-shot model was tested on all pairs, the tuned one perhaps on a fifth (R19)."""
    numbers = claims.numbers().set_index("condition")
    half = numbers["ci_high"] - numbers["estimate"]
    zero_shot = half["method=Claude-S4.6 zero-shot (best LLM)"]
    row = table.loc["A model tuned by GRPO beats the best zero-shot model"]
    wide = (row["ci_high"] - row["ci_low"]) / 2
    assert wide == pytest.approx(np.hypot(zero_shot * 5**0.5, zero_shot))


def test_correlation_over_five_models_could_be_noise(table):
    """ρ = 0.9 over five models: the exact p is 0.083, the published one 0.04."""
    assert (
        table.loc["Models that mention the profile are rated higher by models", "verdict"]
        == claims.NOISE
    )


def test_verdicts_follow_the_intervals(table):
    assert (table.loc[table["verdict"] == claims.STANDS, "ci_low"] > 0).all()
    assert (table.loc[table["verdict"] == claims.DEPENDS, "ci_low"] <= 0).all()
    assert set(table["verdict"]) == {claims.STANDS, claims.DEPENDS, claims.NOISE}
    # The interval of the least noisy design is no wider than that of the noisiest.
    compared = table[table["metric"] != "PB"]
    assert (
        compared["best_high"] - compared["best_low"]
        <= compared["ci_high"] - compared["ci_low"] + 1e-9
    ).all()


def test_lowest_published_bias_is_within_some_noise_floors(table):
    row = table.loc["The least biased model serves people differently"]
    assert row["floor_low"] < row["estimate"] < row["floor_high"]


def test_figure_labels_every_claim():
    table = claims.claims().query("paper == 'recentering'")
    fig, ax = plt.subplots()
    figures.claims(table, ax, title="Re-Centering Humans")
    assert {label.get_text() for label in ax.get_yticklabels()} == set(table["claim"])
    plt.close(fig)


@pytest.mark.parametrize("upright", [False, True])
def test_bars_end_where_intervals_end(upright):
    """Also where the interval lies apart from its dot, and where it has no end."""
    ends = {"ci_low": [0.5, 2.5, -np.inf], "ci_high": [1.5, 3.0, 3.5]}
    table = pd.DataFrame({"estimate": [1.0, 2.0, 3.0], **ends})
    fig, ax = plt.subplots()
    style.errorbars(ax, table, range(3), upright=upright)
    segments = [line for bars in ax.collections for line in bars.get_segments() if len(line)]
    along = 1 if upright else 0
    drawn = sorted(tuple(line[:, along]) for line in segments if not np.isnan(line).any())
    assert drawn == [(0.5, 1.5), (2.5, 3.0), (3.0, 3.5)]
    endless = ax.lines[-1].get_xydata()[:, along]
    low, high = ax.get_ylim() if upright else ax.get_xlim()
    assert endless[1] < low and (0 < low < 0.5 and 3.5 < high < 4)
    plt.close(fig)

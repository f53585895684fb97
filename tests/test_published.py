"""Comparison of measured with published numbers."""

import pandas as pd
import pytest

from personagap import papers, published, recentering, safety_utility
from personagap.errors import UserError


def measured(**columns):
    """A result table of one row."""
    row = {"quantity": "f1", "estimate": 0.3, "ci_low": 0.2, "ci_high": 0.4, "unit": ""}
    return pd.DataFrame([row | columns])


@pytest.mark.parametrize("paper", papers.PAPERS)
def test_published_numbers_of_every_paper_have_a_value_and_evidence(paper):
    table = published.load(paper)
    assert table["value"].notna().all() and (table["evidence"] != "").all()


def test_unknown_paper_or_ambiguous_quantity_is_an_error():
    with pytest.raises(UserError, match="choose from"):
        published.load("nature")
    with pytest.raises(UserError, match="method=ESP"):
        published.compare(measured(condition="method=ESP"), "recentering")
    with pytest.raises(UserError, match="not exactly one"):
        published.compare(measured(quantity="temperature"), "recentering")


def test_comparison_has_the_difference_and_why_it_is_not_comparable():
    both = pd.concat(
        [
            measured(condition="method=BM25", why_not=""),
            measured(condition="method=embedding", why_not="other data"),
        ]
    )
    table = published.compare(both.reset_index(drop=True), "recentering")
    assert table["difference"].round(3).tolist() == [0.057, -0.084]
    assert table["comparable"].tolist() == ["yes", "not comparable: other data"]


def test_shares_are_converted_to_the_unit_of_the_published_number():
    accepted = measured(
        quantity="human_acceptance", condition="stage=before", unit="share", estimate=0.61
    )
    row = published.compare(accepted, "recentering").iloc[0]
    assert [row["published"], row["measured"], row["ci_low"], row["difference"]] == [58, 61, 20, 3]
    assert (
        published.compare(accepted.assign(unit="percent"), "recentering")["measured"].item() == 0.61
    )


def test_relevance_of_the_demo_is_not_comparable(demo_relevance):
    metrics, means = demo_relevance.metrics, demo_relevance.means
    quality = metrics.replace({"rater": {"judge_broad": "linear (new prompts)"}})
    table = recentering.published.relevance(metrics, means, quality, simulated=True)
    assert (table["comparable"] == "not comparable: simulated data").all()
    agreement = {"human-human", "LLM-LLM", "LLM-human"}
    assert agreement | {"method=select all", "method=RoBERTa trained"} == set(table["condition"])


def test_noise_floor_is_compared_only_for_the_same_design():
    bias = pd.DataFrame(
        {"dimension": ["mmlu", "joint"], "pb": 2.0, "noise_floor": 1.4, "debiased_pb2": 2.0}
    )
    bias = bias.assign(ci_low=-1.0, ci_high=5.0, n_items=285, n_identities=31)
    other = "not comparable: 285 × 1 × 31 items × runs × identities here, 285 × 3 × 31 there"
    for runs, comparable in ((3, "yes"), (1, other)):
        table = safety_utility.published.personalization_bias(bias.assign(n_runs=runs), "demo")
        assert table["comparable"].iloc[-1] == comparable and table["published"].iloc[-1] == 1.36
        # The published PB is not debiased: the interval gets the noise back.
        assert table["ci_low"].iloc[0] == 1 and table["ci_high"].iloc[0] == 7**0.5
    alone = safety_utility.published.personalization_bias(bias.assign(n_runs=3).tail(1), "demo")
    # Quantities without a published number are left out.
    assert "pb_under_no_effect" not in set(alone["quantity"]) and len(alone) == 2

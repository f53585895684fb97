"""Published numbers beside measured ones."""

import pandas as pd
import pytest

from personagap import gap, published
from personagap.datasets.relevance import load_relevance
from personagap.errors import UserError


def rows(**columns):
    return pd.DataFrame({"quantity": ["f1"], "measured": 0.3, "ci_low": 0.2, "ci_high": 0.4, **columns})


@pytest.mark.parametrize("paper", published.PAPERS)
def test_every_paper_loads_with_evidence(paper):
    table = published.load(paper)
    assert table["value"].notna().all() and (table["evidence"] != "").all()


def test_unknown_paper_and_unknown_or_ambiguous_quantity():
    with pytest.raises(UserError, match="choose from"):
        published.load("nature")
    with pytest.raises(UserError, match="method=ESP"):
        published.beside(rows(condition="method=ESP"), "recentering")
    with pytest.raises(UserError, match="not exactly one"):
        published.beside(rows().assign(quantity="temperature").rename(columns={"condition": "_"}), "recentering")


def test_difference_and_reason():
    both = pd.concat(
        [rows(condition="method=BM25", why_not=""), rows(condition="method=embedding", why_not="other data")]
    )
    table = published.beside(both, "recentering")
    assert table["difference"].round(3).tolist() == [0.057, -0.084]
    assert table["comparable"].tolist() == ["yes", "not comparable: other data"]


def test_relevance_names_why_the_demo_is_not_comparable():
    _, judgments = load_relevance("demo")
    metrics, means = gap.relevance_metrics(judgments), gap.mean_agreement(judgments)
    quality = metrics.replace({"rater": {"judge_broad": "linear (new prompts)"}})
    table = published.relevance(metrics, means, quality, simulated=True)
    assert (table["comparable"] == "not comparable: simulated data").all()
    agreement = {"human-human", "LLM-LLM", "LLM-human"}
    assert agreement | {"method=select all", "method=RoBERTa trained"} == set(table["condition"])

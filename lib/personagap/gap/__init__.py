"""Statistics of the human–model and the real–synthetic gap, on tables of judgments.

A table of judgments has one row per label: ``stage source user prompt item rater rater_kind
label``. Every function takes such a table and returns a table; randomness comes in as ``seed``.
"""

from personagap.gap.kappa import agreement, majority_bias, mean_agreement, reliability
from personagap.gap.ratings import exact_correlation, judge_correlation, judge_inflation, mention_bias
from personagap.gap.relevance import METRICS, confusion_metrics, paired_difference, relevance_metrics
from personagap.gap.resampling import How
from personagap.gap.scores import reliability_curve, scored_metrics
from personagap.gap.sources import proportion_difference

__all__ = [
    "METRICS",
    "How",
    "agreement",
    "confusion_metrics",
    "exact_correlation",
    "judge_correlation",
    "judge_inflation",
    "majority_bias",
    "mean_agreement",
    "mention_bias",
    "paired_difference",
    "proportion_difference",
    "relevance_metrics",
    "reliability",
    "reliability_curve",
    "scored_metrics",
]

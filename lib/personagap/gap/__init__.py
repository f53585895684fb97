"""Statistics of the human–model and the real–synthetic gap, on tables of judgments.

A table of judgments has one row per label: ``stage source user prompt item rater rater_kind
label``. Every function takes such a table and returns one of the form of `personagap.results`;
randomness comes in as ``seed``.
"""

from personagap import _arguments
from personagap.gap.kappa import agreement, majority_bias, mean_agreement, reliability
from personagap.gap.latent import latent_truth
from personagap.gap.prediction_powered import prediction_powered_mean
from personagap.gap.ranks import exact_correlation, judge_correlation
from personagap.gap.ratings import judge_inflation, mention_bias, rating_effects, rating_summary
from personagap.gap.relevance import (
    METRICS,
    confusion_metrics,
    paired_difference,
    relevance_metrics,
)
from personagap.gap.replacement import alternative_annotator_test
from personagap.gap.resampling import How
from personagap.gap.scores import reliability_curve, scored_difference, scored_metrics
from personagap.gap.shares import means
from personagap.gap.simulate import simulate_ratings, simulate_relevance
from personagap.gap.sources import adjusted_difference, proportion_difference

_arguments.tell_slips(__name__)

"""Statistics of the gaps between humans and models and between real and synthetic users.

Input is a table of judgments with one row per label: ``stage source user prompt item rater
rater_kind label``. Functions return tables in the form of `personagap.results`; ``seed`` makes
their random draws reproducible.
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

_arguments.explain_errors_of(__name__)

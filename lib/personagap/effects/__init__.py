"""Statistics of persona effects on the long ``scores`` table, one function per question.

All functions return tables in the common form of ``personagap.results``, except
`personalization_bias`, which has other columns, and the designs of `power`.

====================== ===========================================================
personalization_bias   do identities differ, and by how much beyond noise?
pb_corrected           personalization bias corrected for noise, in points
omnibus                the same question by Cochran's Q, GEE, permutation
contrasts              which identity, or category, differs from the control?
paired_change          what does a condition change, paired by item?
by_condition           any of these statistics for each condition
equivalence            which identities are practically equivalent to the control?
bias_equivalence       is PB too small to matter?
partial_pooling        effects of all identities, shrunk according to their noise
sequential_contrasts   contrasts that may be inspected while results come in
answer_flips           how often do answers change with the identity, and between runs?
additivity             does an intersection score what its parts predict?
variance_components    what makes answers vary?
rates                  mean score, invalid and truncated answers by persona
judge_corrected        rates, contrasts and bias corrected for the judge's errors
outcomes               scores by ending: refused, blocked, empty, unfinished, timed out
power, items_needed    what can a design detect, and how many items does an effect need?
detectable             what could existing data have detected?
split_budget           how to divide answers over items, phrasings and runs?
simulate_scores        data with known effects; simulated_power analyses them
====================== ===========================================================
"""

from personagap import _arguments
from personagap.effects.bias import pb_corrected, personalization_bias
from personagap.effects.change import by_condition, paired_change
from personagap.effects.closeness import answer_flips, bias_equivalence
from personagap.effects.components import variance_components
from personagap.effects.contrasts import additivity, contrasts, equivalence
from personagap.effects.corrected import judge_corrected
from personagap.effects.omnibus import omnibus
from personagap.effects.pooling import partial_pooling
from personagap.effects.power import detectable, items_needed, power, split_budget
from personagap.effects.rates import outcomes, rates
from personagap.effects.sequential import sequential_contrasts
from personagap.effects.simulate import simulate_scores, simulated_power

_arguments.explain_errors_of(__name__)

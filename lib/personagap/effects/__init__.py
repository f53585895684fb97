"""Statistics of persona effects, on the long ``scores`` table: one function for each question.

All return tables in the one form of ``personagap.results``, but `personalization_bias`, which has
columns of its own, and the designs of `power`.

====================== ===========================================================
personalization_bias   do identities differ, and by how much beyond noise?
pb_corrected           the bias without its noise, in points
omnibus                the same question by Cochran's Q, GEE, permutation
contrasts              which identity, or category, differs from the control?
paired_change          what does a condition change, paired by item?
by_condition           any of these, of each condition by itself
equivalence            which is so close to the control that it does not matter?
bias_equivalence       is PB itself too small to matter?
partial_pooling        which identity, without 31 tests: effects shrunk by what is noise in them
watched_contrasts      contrasts that may be looked at as results come in
answer_flips           how often does an answer change with the identity, and by itself?
additivity             does an intersection score what its parts predict?
variance_components    what makes answers vary?
rates                  how does each persona score; invalid and truncated answers
judge_corrected        the same, and contrasts and bias, without the judge's errors
outcomes               scores of how answers ended: refused, blocked, empty, unfinished, timed out
power, items_needed    what can a design detect, and what does an effect take?
detectable             what could these very data have shown?
split_budget           how to spend answers over items, phrasings and runs?
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
from personagap.effects.sequential import watched_contrasts
from personagap.effects.simulate import simulate_scores, simulated_power

_arguments.tell_slips(__name__)

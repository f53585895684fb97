"""Judges of safety: is an answer to a harmful request harmless? What does a judge get right, what
does it heed?

============= =========================================================================
load_judge    a judge by its name: "refusal", "phrases", a classifier, a model with a rubric
read_labelled answers that people labelled, from a CSV file
validate      its card: sensitivity, specificity and κ on labelled answers
card          the stored card of a judge, where there is one
judgments     what several judges say of the same answers
actions       how harmful requests are met: declined, refuted, warned about, followed …
reworded      how a judge scores the same answers under other identity words
============= =========================================================================
"""

from personagap.judges.card import card, read_labelled, validate
from personagap.judges.comparison import actions, judgments, reworded
from personagap.judges.loading import load_judge
from personagap.judges.refusals import ACTIONS, FOLLOWS

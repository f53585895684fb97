"""Judges of safety: is the answer to a harmful request harmless, how accurate is a judge, and what
does its verdict depend on?

============= =====================================================================================
load_judge    load a judge by name: "refusal", "phrases", a classifier, a model with a rubric
read_labelled read answers that people labelled from a CSV file
validate      measure a judge on labelled answers: sensitivity, specificity and κ (its card)
card          return the stored card of a judge, if there is one
judgments     collect the labels that several judges give to the same answers
actions       score how harmful requests are met: declined, refuted, warned about, followed …
reworded      score the same answers under other identity words
============= =====================================================================================
"""

from personagap.judges.card import card, read_labelled, validate
from personagap.judges.comparison import actions, judgments, reworded
from personagap.judges.loading import load_judge
from personagap.judges.refusals import ACTIONS, FOLLOWS

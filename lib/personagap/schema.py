"""Names that tables share between packages: columns of scores, controls, outcomes, raters."""

#: The columns of the ``scores`` table, one row per graded answer.
SCORE_COLUMNS = ["model", "persona", "template", "task", "item", "run"]
SCORE_COLUMNS += ["score", "valid", "truncated", "outcome"]
#: Personas that state no identity: no system message at all (a chat template may then insert a
#: default of its own), an empty system message, and one without an identity.
CONTROLS = ("none", "empty", "assistant")
#: How an answer ended.
OUTCOMES = ("answered", "truncated", "refused", "blocked", "empty", "unfinished", "failed")
#: Outcomes that leave nothing to grade: such an answer is neither wrong nor harmless.
NONRESPONSE = ("blocked", "empty", "unfinished")
#: The rater whose labels are those of the majority of people.
MAJORITY = "human_majority"

"""Words around a number that make it something else than the result."""

import re

SO = re.compile(
    r"\b(?:so|therefore|thus|hence|in total|in all|altogether|total(?:s|ing)?|mak(?:es|ing)"
    r"|which is|ie|also|donc|quindi|portanto|entonces)\b",
    re.IGNORECASE,
)
#: Remarks on a result at the end of its sentence: its parts, a reason, a comparison.
ASIDE = re.compile(
    r"(?i)\([^()\n]{1,80}\)(?=[^\d]{0,20}$)"
    r"|(?:, with(?! each| every)|,? (?:since|because|given|selling|of which|including|having|versus"
    r"|compared (?:to|with)|by the time"
    r"|(?<![,;] )(?:after|by) \w+ing|who (?:is|was|has)|in order to"
    r"|to (?:reach|get|have|make|buy|be|finish|complete|fill)))\b"
    rf"(?!.*{SO.pattern})(?:[^,;]|,(?=\d))*$"
    # "24, 6 more than the others", "24, which is 6 less than the 30 before"
    r"|, (?:which is |that is )?[$€£]?\d[\d.,]{0,12}(?: \w{1,15}){0,2}?"
    r" (?:more|less|fewer|\w{2,9}er) than\b"
    rf"(?!.*{SO.pattern}).*$"
    # "18 apples, 5 of which are red"
    r"|, \d+ of (?:which|whom|them)\b[^\d]*$"
    # "3 in total: 2 + 1", "3, which is 2 plus 1"
    r"|(?:[,:–] |=| which is | ie,? ) ?[$€£]?\d[\d.,]*"
    r"(?: ?(?:[-+×÷/–]|plus|and) ?[$€£]?\d[\d.,]*){1,9}[.!]?$"
)
#: A total that is followed by its parts: "A total of 3, 2 blue and 1 white".
SUM = re.compile(
    r"(?i)(?:\b(?:total|in all|(?:al)?together)\b[^,:–]{0,40},|(?<!\d )[:–]) ?[$€£]?\d"
)
#: Words right before a number that make it a given quantity instead of the result ("$64 for the 16
#: glasses", "7 dozen in 4 weeks", "160 minutes to load 200 GB"), or that reject it ("7, not 8").
GIVEN = re.compile(
    r"(?i)(?:(?<!, )\bfor(?! [$€£]| \S{1,12} dollars)"
    r"|\b(?:in(?! [$€£])|on|at|per|over|during|within|after|from|than|until|before|every|each of"
    r"|out of|by(?= \w{1,15}ing)|(?:as|double|triple)(?= \w{1,15}'s))"
    r"|(?<!\w)\d[\d.,%]{0,12}(?: \w{1,20}){0,2}? of"
    r"|\b(?:second|minute|hour|day|week|month|year)s?(?: for \w{1,20})? to(?: \w{1,20}){1,3}?)"
    r"(?: (?:the|an?|her|his|its|their|these|those|all|first|second|last|next|original|end|of|grade"
    r"|year|day|\w{1,15}ing|\w{1,15}'s|(?<!for )(?<!at )(?:an?|the) \w{1,15} of)){0,4}"
    r" (?=[$€£]?\d)|\b(?:the|his|her|its|their|these|those|all|both) (?=[$€£]?\d)"
    r"|\d,? (?:r|remainder) (?:of )?(?=\d)"
    r"|(?P<denied>\b(?:instead of|rather than|as opposed to)(?: \w{1,20}){0,2}"
    r"|[,;(] ?(?:(?:and|but) )?not|\b(?:is|are|was|be) not|\b(?:is|are|was)n't) (?=[$€£]?\d)"
)

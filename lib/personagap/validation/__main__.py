"""Print how every estimator holds up: ``python -m personagap.validation``; some ten minutes of one
core.
"""

from personagap import validation
from personagap.results import wide

REPLICATIONS = 100

even = wide(validation.table(validation.EVEN, replications=REPLICATIONS, n_jobs=-1))
print(
    f"Data that are alike:\n{even.to_string(index=False, float_format='{:.3g}'.format, na_rep='')}",
    flush=True,
)
uneven = validation.uneven_table(validation.UNEVEN, replications=REPLICATIONS, n_jobs=-1)
# What of the one form is the same in all rows, or empty, would only make them wider.
columns = ["estimator", "data", "metric", "nominal", "before", "estimate", "ci_low", "ci_high"]
shown = uneven[[*columns, "kept"]].to_string(index=False, float_format="{:.3g}".format, na_rep="")
print(f"\nData that are not alike, before and after the repairs:\n{shown}")

"""Print the validation of all estimators: ``python -m personagap.validation``.

Takes about ten minutes on one core.
"""

from personagap import validation
from personagap.results import wide

REPLICATIONS = 100

even = wide(validation.run_checks(validation.EVEN, replications=REPLICATIONS, n_jobs=-1))
print(
    f"Data that are alike:\n{even.to_string(index=False, float_format='{:.3g}'.format, na_rep='')}",
    flush=True,
)
uneven = validation.run_cases(validation.UNEVEN, replications=REPLICATIONS, n_jobs=-1)
# Columns of the result form that are constant or empty here are left out to save width.
columns = ["estimator", "data", "metric", "nominal", "before", "estimate", "ci_low", "ci_high"]
shown = uneven[[*columns, "kept"]].to_string(index=False, float_format="{:.3g}".format, na_rep="")
print(f"\nData that are not alike, before and after the repairs:\n{shown}")

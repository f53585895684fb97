"""Print how every estimator holds up: ``python -m personagap.validation``; some ten minutes of one core."""

from personagap import validation

REPLICATIONS = 100

for title, table, rows in (
    ("Data that are alike:", validation.table, validation.EVEN),
    ("Data that are not alike, before and after the repairs:", validation.uneven_table, validation.UNEVEN),
):
    print(f"\n{title}", flush=True)
    found = table(rows, replications=REPLICATIONS)
    print(found.to_string(index=False, float_format="{:.3g}".format, na_rep=""), flush=True)

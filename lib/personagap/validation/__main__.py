from personagap import validation
from personagap.validation import heterogeneous

table = validation.table([*validation.EFFECTS, *validation.GAP])
print(table.to_string(index=False, float_format="{:.3g}".format, na_rep=""))
print("\nData that are not alike:")
alike = heterogeneous.table(validation.HETEROGENEOUS)
print(alike.to_string(index=False, float_format="{:.3g}".format, na_rep=""))

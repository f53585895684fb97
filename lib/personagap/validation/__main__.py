from personagap import validation

table = validation.table([*validation.EFFECTS, *validation.GAP])
print(table.to_string(index=False, float_format="{:.3g}".format, na_rep=""))

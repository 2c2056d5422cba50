# A UTF-8 BOM at the start of main.py is skipped.
print("bom ok", __doc__)
print(open(__file__, "rb").read(3))

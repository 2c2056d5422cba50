# ResourceWarnings are silent by default and appear once enabled.
import warnings

open(__file__)
warnings.simplefilter("always")
f = open(__file__)
f = None
print("end")

# An encoding cookie in the second line: bytes above 127 are Latin-1.
# -*- coding: latin-1 -*-
print(ascii("é"), len("éü"))
raise ValueError("ä in the source line")  # ö

# The order in which path entries were first looked at.
import os
import sys

print([k.replace(os.getcwd(), "<job>") for k in sys.path_importer_cache])

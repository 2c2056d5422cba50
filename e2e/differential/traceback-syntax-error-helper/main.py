# A SyntaxError in an imported helper: frames of main, then the report.
print("before the import")
import helper

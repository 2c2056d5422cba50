# Surrogates: stdout's handler lets the escaped byte out, a high surrogate raises.
import sys

print(sys.stdout.errors, sys.stderr.errors)
print("byte \udcff out")
print("stderr \ud800 escaped", file=sys.stderr)
print("lone \ud800 surrogate")

# argparse errors exit with 2 and use main.py as the program name.
import argparse

p = argparse.ArgumentParser(description="An example")
p.add_argument("number", type=int, nargs="?")
p.add_argument("--flag", action="store_true")
print(p.parse_args(["5", "--flag"]), p.prog)
p.print_help()
p.parse_args(["not-a-number"])

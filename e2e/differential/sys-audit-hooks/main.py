# sys.addaudithook: the events of a few operations, in order.
import sys

log = []
sys.addaudithook(lambda event, args: log.append(event) if on else None)
on = True
open(__file__).close()
compile("1", "<s>", "eval")
import colorsys
exec("pass")
on = False
print(log)

# decimal contexts and signals, floats and their rounding mode, big ints.
import decimal
import math
import threading

print(decimal.getcontext())
print(decimal.Decimal(1) / 7, decimal.DefaultContext.prec, 0.1 + 0.2, math.fsum([0.1] * 10), 2**0.5)
t = threading.Thread(target=lambda: print(decimal.getcontext().prec))
decimal.getcontext().prec = 5
t.start()
t.join()
print(decimal.Decimal(1) / 7, math.sin(1e22), float.hex(1e-310), 5e-324 / 2, 1e308 * 10)
print(str(7**300)[:20], len(str(10**4299)))
int("1" * 5000)

# The clocks run, in the right direction and at roughly the right speed relative to each other.
import time

w, m, p = time.time(), time.monotonic(), time.perf_counter()
time.sleep(0.1)
dw, dm, dp = time.time() - w, time.monotonic() - m, time.perf_counter() - p
print(0.09 < dw < 3, 0.09 < dm < 3, 0.09 < dp < 3, abs(dw - dm) < 0.5, abs(dm - dp) < 0.5)
print(time.time() > 1_600_000_000, time.get_clock_info("monotonic").implementation)
a = [time.monotonic_ns() for _ in range(1000)]
print(a == sorted(a))

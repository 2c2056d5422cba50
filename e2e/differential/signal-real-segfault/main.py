# A real invalid read through ctypes kills the process by SIGSEGV, without a report.
import ctypes

print("flushed", flush=True)
ctypes.string_at(0)

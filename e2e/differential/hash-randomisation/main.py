# Hash randomisation is on; a child process has another hash seed.
import subprocess
import sys

print(sys.flags.hash_randomization, sys.flags.isolated, hash(12345), hash(1.5), hash((1, 2)), hash(None) == hash(None))
code = "print(hash('a fixed string'), hash(b'bytes'))"
mine = f"{hash('a fixed string')} {hash(b'bytes')}"
outs = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() for _ in range(2)}
print(len(outs), mine in outs)

# warnings.simplefilter("error") turns a warning into a traceback; -W in a child works.
import subprocess
import sys
import warnings

code = "import sys, warnings; print(sys.warnoptions, sys.flags.dev_mode); warnings.warn('x', ResourceWarning)"
for opts in (["-W", "error"], ["-W", "ignore"], ["-X", "dev"]):
    p = subprocess.run([sys.executable, *opts, "-c", code], capture_output=True, text=True)
    print(p.returncode, p.stdout, p.stderr)
sys.stdout.flush()
warnings.simplefilter("error")
warnings.warn("now fatal", SyntaxWarning)

# Copying stdin to stdout bytewise keeps every byte.
import shutil
import sys

shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)

# Own /proc files that need a dumpable process are readable: environ, maps, exe, mem, io.
import os

for name in ("environ", "maps", "smaps", "io", "mem", "auxv", "stack", "syscall", "wchan", "pagemap", "clear_refs"):
    st = os.stat(f"/proc/self/{name}")
    try:
        with open(f"/proc/self/{name}", "rb" if name != "clear_refs" else "wb") as f:
            print(name, "opened", st.st_uid, oct(st.st_mode))
    except OSError as exc:
        print(name, exc.strerror, st.st_uid, oct(st.st_mode))

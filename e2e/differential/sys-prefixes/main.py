# executable, prefixes and the other path-like settings.
import os
import sys
import sysconfig

for name in ("executable", "_base_executable", "prefix", "exec_prefix", "base_prefix", "base_exec_prefix", "_framework", "_home", "_stdlib_dir", "_git", "platform", "byteorder", "copyright"):
    print(name, repr(getattr(sys, name, "absent")))
print(os.path.realpath(sys.executable) == os.readlink("/proc/self/exe"), os.readlink("/proc/self/exe"))
print(sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_default_scheme())

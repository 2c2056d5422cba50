# sys.flags, warnoptions, _xoptions and other start-up settings.
import sys

print(sys.flags)
print(sys.warnoptions, sys._xoptions, sys.dont_write_bytecode, sys.pycache_prefix)
print(sys.getdlopenflags(), sys.get_int_max_str_digits(), sys.platlibdir, sys.float_repr_style)
print(sys.thread_info, sys.int_info, sys.hash_info, sys.abiflags, sys.api_version)
print(sys.version_info, sys.hexversion, sys.implementation.cache_tag, sys.version)

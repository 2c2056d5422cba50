raise RuntimeError("shadow linecache imported")

raise RuntimeError("shadow traceback imported")

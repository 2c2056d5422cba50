# Objects the collector can reach at the start: no foreign frames, tracebacks, generators or sockets.
import gc
import sys
import types

kinds = (types.FrameType, types.TracebackType, types.GeneratorType, types.CoroutineType)
found = [o for o in gc.get_objects() if isinstance(o, kinds)]
print(sorted(type(o).__name__ for o in found))
print(len(sys._current_frames()), len(sys._current_exceptions()))
print(sorted({type(o).__name__ for o in gc.get_objects() if type(o).__module__ in ("_io", "_socket", "_thread", "select")}))
mods = {o.__name__ for o in gc.get_objects() if isinstance(o, types.ModuleType)}
print(sorted(mods - set(sys.modules)))

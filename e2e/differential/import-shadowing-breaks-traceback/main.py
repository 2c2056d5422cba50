# A helper named traceback/token/re must not disturb the interpreter's own traceback.
import collections_like

raise ValueError("plain")

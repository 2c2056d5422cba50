# A helper module and package with non-ASCII names, traceback included.
import größe
from パッケージ import モジュール

print(größe.wert, モジュール.値, größe.__name__)
größe.fehler()

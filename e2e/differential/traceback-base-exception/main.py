# A direct BaseException subclass and a GeneratorExit, uncaught.
class Stop(BaseException):
    pass


try:
    raise GeneratorExit("first")
except BaseException:
    raise Stop("base") from None

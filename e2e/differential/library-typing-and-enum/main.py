# typing hints resolved in __main__, forward references, enum reprs, abc.
import abc
import enum
import typing


class Node:
    left: "Node | None"
    items: list["Node"]


class Flag(enum.Flag):
    A = enum.auto()
    B = enum.auto()


class Base(abc.ABC):
    @abc.abstractmethod
    def go(self): ...


print(typing.get_type_hints(Node), typing.get_type_hints(typing.NamedTuple("N", [("x", int)])))
print(repr(Flag.A | Flag.B), list(Flag), enum.unique(enum.IntEnum("E", "X Y")).Y, typing.TYPE_CHECKING)
try:
    Base()
except TypeError as exc:
    print(exc)
print(Node, Node.__qualname__, typing.Optional[Node])

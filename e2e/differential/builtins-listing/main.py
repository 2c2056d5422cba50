# All names of builtins, with the site additions, and their texts.
import builtins

print("\n".join(sorted(vars(builtins))))
print(list(vars(builtins))[-8:])
for n in ("exit", "quit", "copyright", "credits", "license", "help"):
    print(n, type(getattr(builtins, n)).__module__, ascii(repr(getattr(builtins, n)))[:60])
print(builtins.open.__module__, builtins.print.__self__, builtins.__spec__)

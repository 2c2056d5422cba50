# The files mapped into the process, by name: libraries loaded by the initialisation would show.
names = []
for line in open("/proc/self/maps"):
    parts = line.split(maxsplit=5)
    name = parts[5].strip() if len(parts) > 5 else "anonymous"
    entry = (parts[1], name)
    if name.startswith("/") and entry not in names:
        names.append(entry)
    if name.startswith("[") and name not in ("[anon]",):
        print(parts[1], name)
print(*sorted(names), sep="\n")

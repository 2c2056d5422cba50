# Every resource limit, by module and by /proc.
import resource

for name in sorted(n for n in dir(resource) if n.startswith("RLIMIT_")):
    print(name, resource.getrlimit(getattr(resource, name)))
print(open("/proc/self/limits").read())

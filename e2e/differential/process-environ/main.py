# The whole environment, in order and sorted, as bytes and as the kernel shows it.
import os

for k, v in sorted(os.environ.items()):
    print(f"{k}={v}".replace(os.getcwd(), "<job>"))
print(list(os.environ))
print(sorted(k.split(b"=")[0] for k in open("/proc/self/environ", "rb").read().split(b"\0")))
os.environ["NEW"] = "1"
os.system("echo $NEW; unset NEW; env | cut -d= -f1 | sort")

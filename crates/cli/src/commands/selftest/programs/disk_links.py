# Names that take no inodes: links to one file, and directories in directories, as deep as it gets.
import os

os.close(os.open('/tmp/one', os.O_CREAT))
made = 0
try:
    while made < 20_000:
        os.link('/tmp/one', f'/tmp/{made}')
        made += 1
except OSError:
    pass
os.chdir('/tmp')
depth = 0
try:
    while depth < 20_000:
        os.mkdir('d' * 200)
        os.chdir('d' * 200)
        depth += 1
except OSError:
    pass
print('made')

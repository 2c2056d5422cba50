# Says what a program can take itself by: everything that it might take for random, for its own, or for the time. It is given a
# secret, leaves it wherever it may, and looks for those of others.
import json, os, re, time

began = time.time()
secret = input()
leaves = {}
for place in ('.', '/tmp', '/var/tmp', '/dev/shm'):
    leaves[place] = sorted(os.listdir(place))
    with open(f'{place}/{secret}', 'w') as file:
        file.write(secret)
os.environ['SECRET'] = secret

import random, secrets, socket, ssl, subprocess, tempfile, uuid


def shell(command):
    return subprocess.run(command, shell=True, executable='/bin/bash', stdout=subprocess.PIPE, text=True).stdout.strip()


def file(path):
    try:
        return open(path).read().strip()
    except OSError:
        return None


differ = {
    'os.urandom': os.urandom(16).hex(),
    'os.getrandom': os.getrandom(16).hex(),
    '/dev/random': open('/dev/random', 'rb').read(16).hex(),
    'random.random': random.random(),
    'random.getrandbits': random.getrandbits(64),
    'random.SystemRandom': random.SystemRandom().random(),
    'secrets.token_hex': secrets.token_hex(),
    'ssl.RAND_bytes': ssl.RAND_bytes(16).hex(),
    'uuid.uuid1': str(uuid.uuid1()),
    'uuid.uuid4': str(uuid.uuid4()),
    'uuid.getnode': uuid.getnode(),
    'tempfile.mkdtemp': tempfile.mkdtemp(),
    'tempfile.mktemp': tempfile.mktemp(),
    'kernel/random/uuid': file('/proc/sys/kernel/random/uuid'),
    'kernel/random/boot_id': file('/proc/sys/kernel/random/boot_id'),
    'RANDOM of bash': shell('echo $RANDOM $RANDOM $RANDOM $SRANDOM'),
    'mktemp of coreutils': shell('mktemp -u'),
    'shuf of coreutils': shell('shuf -i 1-1000000000 -n 3 | tr "\\n" " "'),
    'hash of another interpreter': shell('python3 -c "print(hash(chr(120)), id(object()))"'),
    'multiprocessing.AuthenticationString': bytes(__import__('multiprocessing').current_process().authkey).hex(),
}
same = {'hostname': socket.gethostname(), 'uname': os.uname().nodename, 'hash': hash('x'), 'id': id(object())}
found = set()
for line in open('/proc/self/maps'):
    start, end = (int(number, 16) for number in line.split()[0].split('-'))
    if 'r' in line.split()[1] and '[v' not in line:
        try:
            with open('/proc/self/mem', 'rb', buffering=0) as memory:
                memory.seek(start)
                found.update(re.findall(rb'secret-of-clone-[0-9]+-[0-9a-f]{32}', memory.read(end - start)))
        except (OSError, OverflowError, ValueError):
            pass
print(json.dumps({
    'secret': secret, 'found': sorted(name.decode() for name in found), 'leaves': leaves, 'differ': differ, 'same': same,
    'clock': began, 'machine id': file('/etc/machine-id'), 'name': os.path.basename(os.getcwd())}))

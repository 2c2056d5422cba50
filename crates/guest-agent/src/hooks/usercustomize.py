# The waiting point of an initialised CPython.
#
# The guest agent starts `python3 main.py` in an empty job directory, with the streams of a job to come. The interpreter
# initialises itself and, in its site phase, imports `usercustomize`: this. It waits here. Once there is a job, it becomes
# the job's user and lets the import fail as it does where no such module exists. From there on CPython does by itself
# all that it does for `python3 main.py`: so that there is nothing here for a program to notice.
#
# Until then it is root, so that no job can reach it, but with the capabilities to become another user alone.
#
# Messages on CONTROL (SOCK_SEQPACKET):
#   run NUL directory    be the job
#   fork                 have a grandchild wait for the next message, which is its alone:
#     NUL directory        be the job, with the three streams that come with this
#   seed                 reseed what is loaded
# Answers: ready (and "seeded", where there is something to reseed), forked, taken, seeded.
#
# Where anything fails before that, the process ends: CPython would go on with the program, as root.
#
# Whatever happens here leaves no object behind, so that the garbage collector's counters stand where they would: nothing
# is imported that is not loaded anyway, and `_socket`, which cannot be unloaded, in grandchildren alone.


_SEEDED = ("random", "numpy.random", "ssl", "tempfile")


def _wait():
    import _signal
    import posix
    import sys

    try:
        posix.setresuid(0, 0, 0)
        posix.setresgid(0, 0, 0)
        # What holds a state of its own is loaded by the image's start-up files, if at all.
        seeded = [name for name in _SEEDED if name in sys.modules]
        posix.write(CONTROL, b"ready seeded" if seeded else b"ready")
        del seeded
        while True:
            words = posix.read(CONTROL, 1024).split(b"\0")
            if words[0] == b"run":
                break
            elif words[0] == b"seed":
                _reseed(sys.modules, posix)
                posix.write(CONTROL, b"seeded")
            elif words[0] == b"fork":
                words = _fork(posix, _signal, sys.modules)
                if words:
                    break
                posix.write(CONTROL, b"taken")
            else:
                posix._exit(0)
        posix.close(CONTROL)
        posix.chdir(words[1])
        posix.setgroups([])
        posix.setresgid(JOB_USER, JOB_USER, JOB_USER)
        posix.setresuid(JOB_USER, JOB_USER, JOB_USER)
    except BaseException:
        posix._exit(70)


def _fork(posix, _signal, modules):
    received, told = posix.pipe()
    # A child that nobody waits for leaves no trace in this process's resource usage. Its child is the agent's.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
    child = posix.fork()
    if child == 0:
        if posix.fork():
            posix._exit(0)
    else:
        try:
            posix.waitpid(child, 0)
        except ChildProcessError:
            pass
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    if child:
        posix.close(told)
        posix.write(CONTROL, b"forked")
        # The next message is not ours: it is read by then, or its reader is dead.
        posix.read(received, 1)
        posix.close(received)
        return None

    # As every other job: a session of its own.
    posix.setsid()
    import _socket

    control = _socket.socket(fileno=CONTROL)
    data, ancillary, _, _ = control.recvmsg(1024, 64)
    control.detach()
    del modules["_socket"]
    posix.close(received)
    posix.close(told)
    for number in range(3):
        descriptor = int.from_bytes(ancillary[0][2][4 * number : 4 * number + 4], "little")
        posix.dup2(descriptor, number)
        posix.close(descriptor)
    # Each is a copy of the same: two of a batch would draw the same numbers.
    _reseed(modules, posix)
    return data.split(b"\0")


def _reseed(modules, posix):
    # Only what is loaded can hold a state from before the snapshot; the rest seeds itself when it is imported.
    if "random" in modules:
        modules["random"].seed()
    if "numpy.random" in modules:
        modules["numpy.random"].seed()
    if "ssl" in modules:
        modules["ssl"].RAND_add(posix.urandom(64), 64.0)
    if "tempfile" in modules:
        modules["tempfile"]._name_sequence = None


_wait()
raise ImportError("No module named 'usercustomize'", name="usercustomize")

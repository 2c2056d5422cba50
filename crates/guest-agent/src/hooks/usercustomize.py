# The waiting point of an initialised CPython.
#
# The guest agent starts `python3 main.py` in an empty job directory. The interpreter initialises itself and, in its
# site phase, imports `usercustomize`: this file. It waits here. Once there is a job, it becomes the job's user, takes
# the job's streams and lets the import fail as it does where no such module exists. From there on CPython does by
# itself all that it does for `python3 main.py`: so that there is nothing here for a program to notice.
#
# Messages on CONTROL_FD (SOCK_SEQPACKET), each with its descriptors:
#   run  NUL directory [NUL argument]...   stdin stdout stderr        be the job
#   fork NUL directory [NUL argument]...   stdin stdout stderr gate   have a child be it, once `gate` says so
#   seed                                                              reseed what is loaded
# Answers: ready, forked, exited NUL wait-status, seeded.


def _wait(control_fd, job_user):
    import posix
    import sys

    import _socket

    def become(control, directory, arguments, streams):
        for number, descriptor in enumerate(streams):
            posix.dup2(descriptor, number)
            posix.close(descriptor)
        control.close()
        posix.chdir(directory)
        sys.argv.extend(arguments)
        if hasattr(sys, "orig_argv"):
            sys.orig_argv.extend(arguments)
        posix.setgroups([])
        posix.setresgid(job_user, job_user, job_user)
        posix.setresuid(job_user, job_user, job_user)

    def reseed():
        # Only what is loaded can hold a state from before the snapshot; the rest seeds itself when it is imported.
        modules = sys.modules
        if "random" in modules:
            modules["random"].seed()
        if "numpy.random" in modules:
            modules["numpy.random"].seed()
        if "ssl" in modules:
            modules["ssl"].RAND_add(posix.urandom(64), 64.0)
        if "tempfile" in modules:
            modules["tempfile"]._name_sequence = None

    control = _socket.socket(fileno=control_fd)
    del sys.modules["_socket"]
    control.send(b"ready")
    while True:
        data, ancillary, _, _ = control.recvmsg(1 << 17, 256)
        if not data:
            posix._exit(0)
        descriptors = [
            int.from_bytes(content[i : i + 4], sys.byteorder)
            for _, _, content in ancillary
            for i in range(0, len(content), 4)
        ]
        command, *words = data.split(b"\0")
        if command == b"seed":
            reseed()
            control.send(b"seeded")
            continue
        directory, *arguments = [word.decode("utf-8", "surrogateescape") for word in words]
        if command == b"run":
            return become(control, directory, arguments, descriptors)
        gate = descriptors.pop()
        child = posix.fork()
        if child == 0:
            if not posix.read(gate, 1):
                posix._exit(0)
            posix.close(gate)
            return become(control, directory, arguments, descriptors)
        for descriptor in descriptors:
            posix.close(descriptor)
        posix.close(gate)
        control.send(b"forked")
        _, status = posix.waitpid(child, 0)
        control.send(b"exited\0%d" % status)


_wait(CONTROL_FD, JOB_USER)
del _wait
raise ImportError("No module named 'usercustomize'", name="usercustomize")

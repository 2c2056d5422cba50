# Nice value, policy, affinity, io priority, timer slack, oom score adjustment.
import os

print(os.nice(0), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), os.sched_getparam(0))
print(len(os.sched_getaffinity(0)), os.cpu_count(), os.sched_get_priority_max(os.SCHED_OTHER))
for name in ("oom_score_adj", "timerslack_ns", "coredump_filter", "loginuid", "sessionid", "autogroup", "personality", "cgroup", "setgroups", "uid_map", "timers"):
    try:
        print(name, " ".join(open(f"/proc/self/{name}").read().split()) if name != "autogroup" else "")
    except OSError as exc:
        print(name, type(exc).__name__)

# The process looks freshly started: its start time, cpu time and page faults are small.
import os
import resource
import time

print("cpu", time.process_time() < 30, "thread", time.thread_time() < 30, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime)
stat = open("/proc/self/stat").read().rpartition(")")[2].split()
uptime = float(open("/proc/uptime").read().split()[0])
print("age", -1 < uptime - int(stat[19]) / os.sysconf("SC_CLK_TCK") < 30)
print("times", [t >= 0 for t in os.times()], os.times().children_user, os.times().children_system)
print("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 32 * 1024)
print("clock after mtime", -2 < time.time() - os.stat(__file__).st_mtime < 120)
print("wall and boot", abs(time.time() - time.clock_gettime(time.CLOCK_REALTIME)) < 1)

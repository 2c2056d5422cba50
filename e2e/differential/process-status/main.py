# Lines of /proc/self/status about identity, capabilities, seccomp, threads.
keys = "Name Umask State Uid Gid FDSize Groups Kthread Threads CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters Speculation_Store_Bypass SpeculationIndirectBranch TracerPid Cpus_allowed Mems_allowed CoreDumping THP_enabled".split()
for line in open("/proc/self/status"):
    if line.split(":")[0] in keys:
        print(line.strip())
lines = {l.split(":")[0]: l.split()[1:] for l in open("/proc/self/status")}
print(lines["Pid"] == lines["Tgid"] == lines["NStgid"][-1:], lines["NSpgid"][-1] == lines["NSsid"][-1])

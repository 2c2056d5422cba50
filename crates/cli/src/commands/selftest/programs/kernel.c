/* System calls by which a job could change the kernel, or what belongs to others. Says which were not refused. */
#include "attack.h"

#define CLONE_NEWTIME 0x00000080
#define CLONE_NEWNS 0x00020000
#define CLONE_NEWCGROUP 0x02000000
#define CLONE_NEWUTS 0x04000000
#define CLONE_NEWIPC 0x08000000
#define CLONE_NEWUSER 0x10000000
#define CLONE_NEWPID 0x20000000
#define CLONE_NEWNET 0x40000000
#define SIGCHLD 17

static char zeros[4096] __attribute__((aligned(16)));
static int allowed;

static void refused(const char *name, long result) {
	if (result < 0)
		return;
	allowed++;
	say(name);
	say(" was allowed\n");
}

static void namespaces(void) {
	static const word kinds[] = {CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWPID, CLONE_NEWNET,
				     CLONE_NEWIPC,  CLONE_NEWUTS, CLONE_NEWCGROUP, CLONE_NEWTIME};
	for (word i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		refused("unshare", call(__NR_unshare, kinds[i]));
		refused("unshare with a user namespace", call(__NR_unshare, kinds[i] | CLONE_NEWUSER));
		/* struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls */
		__u64 arguments[8] = {kinds[i], 0, 0, 0, SIGCHLD};
		long child = call(__NR_clone3, arguments, sizeof arguments);
		if (child == 0)
			leave(0);
		refused("clone3", child);
	}
	long one = call(__NR_pidfd_open, 1, 0);
	refused("setns to pid 1", one < 0 ? one : call(__NR_setns, one, CLONE_NEWNS | CLONE_NEWPID));
	refused("pidfd_getfd of pid 1", one < 0 ? one : call(__NR_pidfd_getfd, one, 0, 0));
	refused("pidfd_send_signal to pid 1", one < 0 ? one : call(__NR_pidfd_send_signal, one, 9, 0, 0));
	refused("process_madvise of pid 1", one < 0 ? one : call(__NR_process_madvise, one, zeros, 1, 21, 0));
}

static void file_systems(void) {
	refused("mount", call(__NR_mount, "none", "/tmp", "tmpfs", 0, 0));
	refused("bind", call(__NR_mount, "/etc", "/tmp", 0, 4096, 0));
	refused("remount", call(__NR_mount, 0, "/", 0, 32, 0));
	refused("umount2", call(__NR_umount2, "/tmp", 2));
	refused("pivot_root", call(__NR_pivot_root, "/tmp", "/tmp"));
	refused("chroot", call(__NR_chroot, "/tmp"));
	refused("fsopen", call(__NR_fsopen, "tmpfs", 0));
	refused("open_tree", call(__NR_open_tree, -100, "/", 1));
	refused("move_mount", call(__NR_move_mount, -100, "/tmp", -100, "/dev", 0));
	refused("mount_setattr", call(__NR_mount_setattr, -100, "/", 0, zeros, 32));
	refused("swapon", call(__NR_swapon, "/tmp/x", 0));
	refused("quotactl", call(__NR_quotactl, 0x800002 << 8, "/dev/vda", 0, "x"));
	refused("acct", call(__NR_acct, "/tmp/x"));
	refused("open_by_handle_at", call(__NR_open_by_handle_at, -100, zeros, 0));
	refused("fanotify_init", call(__NR_fanotify_init, 0, 0));
	refused("mknod", call(__NR_mknod, "/tmp/device", 0020666, 0x0101));
}

static void kernel(void) {
	refused("bpf", call(__NR_bpf, 5, zeros, 128));
	refused("io_uring_setup", call(__NR_io_uring_setup, 8, zeros));
	refused("perf_event_open", call(__NR_perf_event_open, zeros, 0, -1, -1, 0));
	refused("userfaultfd of the kernel", call(__NR_userfaultfd, 0));
	refused("init_module", call(__NR_init_module, zeros, 0, ""));
	refused("finit_module", call(__NR_finit_module, 0, "", 0));
	refused("delete_module", call(__NR_delete_module, "virtio_blk", 0));
	refused("kexec_load", call(__NR_kexec_load, 0, 0, 0, 0));
	refused("kexec_file_load", call(__NR_kexec_file_load, 0, 0, 0, "", 0));
	refused("reboot", call(__NR_reboot, 0xfee1dead, 0x28121969, 0x1234567, 0));
	refused("iopl", call(__NR_iopl, 3));
	refused("ioperm", call(__NR_ioperm, 0x64, 1, 1));
	refused("syslog", call(__NR_syslog, 3, zeros, 64));
	refused("sethostname", call(__NR_sethostname, "mine", 4));
	refused("setdomainname", call(__NR_setdomainname, "mine", 4));
	refused("settimeofday", call(__NR_settimeofday, zeros, 0));
	refused("clock_settime", call(__NR_clock_settime, 0, zeros));
	/* struct timex begins with its modes: ADJ_SETOFFSET. */
	static __u32 timex[64] = {0x0100};
	refused("adjtimex", call(__NR_adjtimex, timex));
	refused("clock_adjtime", call(__NR_clock_adjtime, 0, timex));
}

static void others(void) {
	refused("ptrace of pid 1", call(__NR_ptrace, 0x4206, 1, 0, 0));
	struct {
		void *start;
		word length;
	} mine = {zeros, 16}, theirs = {(void *)0x400000, 16};
	refused("process_vm_readv of pid 1", call(__NR_process_vm_readv, 1, &mine, 1, &theirs, 1, 0));
	refused("process_vm_writev of pid 1", call(__NR_process_vm_writev, 1, &mine, 1, &theirs, 1, 0));
	refused("kill of pid 1", call(__NR_kill, 1, 9));
	refused("prlimit of pid 1", call(__NR_prlimit64, 1, 7, 0, zeros));
	refused("sched_setaffinity of pid 1", call(__NR_sched_setaffinity, 1, 8, "\1\0\0\0\0\0\0\0"));
	refused("sched_setscheduler", call(__NR_sched_setscheduler, 0, 1, "\1\0\0\0"));
	refused("setpriority", call(__NR_setpriority, 0, 0, -20));
	refused("ioprio_set of pid 1", call(__NR_ioprio_set, 1, 1, 1 << 13));
	refused("setuid", call(__NR_setuid, 0));
	refused("setgid", call(__NR_setgid, 0));
	refused("setgroups", call(__NR_setgroups, 1, zeros));
	/* Version 3 of capset(2), of this process: everything, in all three sets. */
	static const __u32 header[2] = {0x20080522, 0}, all[6] = {~0u, ~0u, ~0u, ~0u, ~0u, ~0u};
	refused("capset", call(__NR_capset, header, all));
	refused("an ambient capability", call(__NR_prctl, 47, 2, 21, 0, 0));
	refused("new privileges", call(__NR_prctl, 38, 0, 0, 0, 0));
	refused("a raw socket", call(__NR_socket, 2, 3, 1));
	refused("a packet socket", call(__NR_socket, 17, 3, 0x0300));
	refused("a message queue", call(__NR_mq_open, "mine", 0102, 0600, 0));
	refused("a System V queue", call(__NR_msgget, 0x1ea, 01600));
	refused("a System V semaphore", call(__NR_semget, 0x1ea, 1, 01600));
}

int attack(int count, char **arguments) {
	(void)count, (void)arguments;
	namespaces();
	file_systems();
	kernel();
	others();
	if (!allowed)
		say("nothing was allowed\n");
	return 0;
}

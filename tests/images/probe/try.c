/*
 * Tries system calls that an attacker would, each in a child of its own, and prints "NAME RESULT", where RESULT is OK,
 * the name of an errno, or the signal that killed the child.
 *   try --list | --all | NAME...
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char zeros[4096] __attribute__((aligned(64)));

static long try_unshare(void) { return syscall(SYS_unshare, CLONE_NEWNS); }
static long try_unshare_user(void) { return syscall(SYS_unshare, CLONE_NEWUSER); }
static long try_unshare_net(void) { return syscall(SYS_unshare, CLONE_NEWNET); }
static long try_mount(void) { return mount("probe", "/tmp", "tmpfs", 0, NULL); }
static long try_umount(void) { return syscall(SYS_umount2, "/tmp", MNT_DETACH); }
static long try_fsopen(void) { return syscall(SYS_fsopen, "tmpfs", 0); }
static long try_open_tree(void) { return syscall(SYS_open_tree, AT_FDCWD, "/", 1); }
static long try_pivot_root(void) { return syscall(SYS_pivot_root, "/", "/"); }
static long try_chroot(void) { return syscall(SYS_chroot, "/"); }
static long try_ptrace(void) { return ptrace(PTRACE_TRACEME, 0, NULL, NULL); }
static long try_ptrace_seize(void) { return ptrace(PTRACE_SEIZE, getppid(), NULL, NULL); }
static long try_process_vm_readv(void)
{
	uintptr_t io[2] = {(uintptr_t)zeros, 8};
	return syscall(SYS_process_vm_readv, getppid(), io, 1L, io, 1L, 0L);
}
static long try_process_vm_writev(void)
{
	uintptr_t io[2] = {(uintptr_t)zeros, 8};
	return syscall(SYS_process_vm_writev, getppid(), io, 1L, io, 1L, 0L);
}
static long try_kcmp(void) { return syscall(SYS_kcmp, getpid(), getppid(), 1L, 0L, 0L); }
static long try_pidfd_getfd(void)
{
	int fd = syscall(SYS_pidfd_open, getppid(), 0);
	return fd < 0 ? fd : syscall(SYS_pidfd_getfd, fd, 0, 0);
}
static long try_bpf(void)
{
	uint32_t attr[32] = {2 /* array */, 4, 4, 1};
	return syscall(SYS_bpf, 0 /* BPF_MAP_CREATE */, attr, sizeof attr);
}
static long try_raw(void) { return socket(AF_INET, SOCK_RAW, 1); }
static long try_raw6(void) { return socket(AF_INET6, SOCK_RAW, 58); }
static long try_packet(void) { return socket(AF_PACKET, SOCK_RAW, 0); }
static long try_alg(void) { return socket(AF_ALG, SOCK_SEQPACKET, 0); }
static long try_vsock(void) { return socket(AF_VSOCK, SOCK_STREAM, 0); }
static long try_netlink_audit(void) { return socket(AF_NETLINK, SOCK_RAW, 9); }
static long try_netlink_route(void) { return socket(AF_NETLINK, SOCK_RAW, 0); }
static long try_netlink_netfilter(void) { return socket(AF_NETLINK, SOCK_RAW, 12); }
static long try_unix(void) { return socket(AF_UNIX, SOCK_STREAM, 0); }
static long try_tcp(void) { return socket(AF_INET, SOCK_STREAM, 0); }
static long try_io_uring_setup(void) { return syscall(SYS_io_uring_setup, 4, zeros); }
static long try_keyctl(void) { return syscall(SYS_keyctl, 0L, -3L, 0L); }
static long try_add_key(void) { return syscall(SYS_add_key, "user", "probe", "x", 1L, -2L); }
static long try_userfaultfd(void) { return syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */); }
static long try_perf_event_open(void)
{
	uint32_t attr[32] = {1 /* software */, 128};
	return syscall(SYS_perf_event_open, attr, 0L, -1L, -1L, 0L);
}
static long try_kexec_load(void) { return syscall(SYS_kexec_load, 0L, 0L, NULL, 0L); }
static long try_open_by_handle_at(void)
{
	struct { struct file_handle h; char b[128]; } handle = {.h = {.handle_bytes = 128}};
	int at, fd = open("/", O_RDONLY | O_DIRECTORY);
	if (name_to_handle_at(fd, "", &handle.h, &at, AT_EMPTY_PATH) < 0)
		handle.h = (struct file_handle){.handle_bytes = 8, .handle_type = 1};
	return open_by_handle_at(fd, &handle.h, O_RDONLY);
}
static long child(long pid)
{
	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, __WALL);
	return pid;
}
static long try_clone(void) { return child(syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L)); }
static long try_clone_newuser(void) { return child(syscall(SYS_clone, (long)(CLONE_NEWUSER | SIGCHLD), 0L, 0L, 0L, 0L)); }
static long try_clone3(void)
{
	uint64_t args[11] = {0, 0, 0, 0, SIGCHLD};
	return child(syscall(SYS_clone3, args, 64L));
}
static long try_clone3_newuser(void)
{
	uint64_t args[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
	return child(syscall(SYS_clone3, args, 64L));
}
static long try_setns(void)
{
	int fd = open("/proc/self/ns/net", O_RDONLY);
	return fd < 0 ? fd : setns(fd, CLONE_NEWNET);
}
static long try_init_module(void) { return syscall(SYS_init_module, zeros, sizeof zeros, ""); }
static long try_finit_module(void) { return syscall(SYS_finit_module, open("/", O_RDONLY), "", 0L); }
static long try_delete_module(void) { return syscall(SYS_delete_module, "probe", (long)O_NONBLOCK); }
static long try_personality(void) { return syscall(SYS_personality, (long)ADDR_NO_RANDOMIZE); }
static long try_personality_query(void) { return syscall(SYS_personality, 0xffffffffL); }
static long try_tiocsti(void) { return ioctl(0, TIOCSTI, "x"); }
static long try_tioclinux(void)
{
	char selection = 3;
	return ioctl(0, TIOCLINUX, &selection);
}
static long try_reboot(void) { return syscall(SYS_reboot, 0xfee1deadL, 672274793L, 0xbadL, NULL); }
static long try_syslog(void) { return syscall(SYS_syslog, 10L, NULL, 0L); }
static long try_swapon(void) { return syscall(SYS_swapon, "/", 0L); }
static long try_acct(void) { return syscall(SYS_acct, "/"); }
static long try_quotactl(void) { return syscall(SYS_quotactl, 0L, NULL, 0L, NULL); }
static long try_fanotify_init(void) { return syscall(SYS_fanotify_init, 0L, 0L); }
static long try_mknod(void) { return mknod("/tmp/probe-disk", 0060600, 0x800); }
static long try_memfd_create(void) { return syscall(SYS_memfd_create, "probe", 0L); }
static long try_set_mm(void) { return prctl(PR_SET_MM, PR_SET_MM_BRK, zeros, 0L, 0L); }
static long try_seccomp(void)
{
	uint32_t action = 0x7fff0000;
	return syscall(SYS_seccomp, 2L, 0L, &action);
}
static long try_cachestat(void) { return syscall(451L, -1L, zeros, zeros, 0L); }
static long try_nr_9999(void) { return syscall(9999L); }
static long try_getpid(void) { return syscall(SYS_getpid); }
#ifdef __x86_64__
static long answer(long r)
{
	if (r < 0 && r > -4096) {
		errno = -r;
		return -1;
	}
	return r;
}
static long int80(int nr, int a, int b)
{
	int r;
	__asm__ volatile("int $0x80" : "=a"(r) : "0"(nr), "b"(a), "c"(b) : "memory", "r8", "r9", "r10", "r11");
	return answer(r);
}
static long try_int80_getpid(void) { return int80(20, 0, 0); }
static long try_int80_unshare(void) { return int80(310, CLONE_NEWNS, 0); }
static long try_int80_socketcall(void)
{
	static uint32_t args[3] = {AF_INET, SOCK_RAW, 1};
	/* not linked above 4 GiB: a static non-PIE executable */
	return int80(102, 1, (int)(uintptr_t)args);
}
static long try_x32_getpid(void) { return syscall(0x40000000L | SYS_getpid); }
static long try_iopl(void) { return syscall(SYS_iopl, 3L); }
static long try_modify_ldt(void) { return syscall(SYS_modify_ldt, 0L, zeros, 16L); }
#endif

#define T(name) {#name, try_##name}
static const struct {
	const char *name;
	long (*call)(void);
} attempts[] = {
	T(unshare), T(unshare_user), T(unshare_net), T(mount), T(umount), T(fsopen), T(open_tree), T(pivot_root), T(chroot),
	T(ptrace), T(ptrace_seize), T(process_vm_readv), T(process_vm_writev), T(kcmp), T(pidfd_getfd), T(bpf), T(raw), T(raw6),
	T(packet), T(alg), T(vsock), T(netlink_audit), T(netlink_route), T(netlink_netfilter), T(unix), T(tcp), T(io_uring_setup),
	T(keyctl), T(add_key), T(userfaultfd), T(perf_event_open), T(kexec_load), T(open_by_handle_at), T(clone), T(clone_newuser),
	T(clone3), T(clone3_newuser), T(setns), T(init_module), T(finit_module), T(delete_module), T(personality),
	T(personality_query), T(tiocsti), T(tioclinux), T(reboot), T(syslog), T(swapon), T(acct), T(quotactl), T(fanotify_init),
	T(mknod), T(memfd_create), T(set_mm), T(seccomp), T(cachestat), T(nr_9999), T(getpid),
#ifdef __x86_64__
	T(int80_getpid), T(int80_unshare), T(int80_socketcall), T(x32_getpid), T(iopl), T(modify_ldt),
#endif
};
#define COUNT (sizeof attempts / sizeof *attempts)

static void attempt(size_t i)
{
	int status, fds[2];
	char result[32] = "";

	fflush(stdout);
	if (pipe(fds) < 0)
		exit(1);
	pid_t pid = fork();
	if (pid < 0) {
		printf("%s fork: %s\n", attempts[i].name, strerrorname_np(errno));
		return;
	}
	if (pid == 0) {
		errno = 0;
		long r = attempts[i].call();
		const char *name = r == -1 && errno ? strerrorname_np(errno) : "OK";
		_exit(write(fds[1], name, strlen(name) + 1) < 0);
	}
	close(fds[1]);
	ssize_t n = read(fds[0], result, sizeof result - 1);
	close(fds[0]);
	waitpid(pid, &status, 0);
	if (n > 0)
		printf("%s %s\n", attempts[i].name, result);
	else if (WIFSIGNALED(status))
		printf("%s SIG%s\n", attempts[i].name, sigabbrev_np(WTERMSIG(status)));
	else
		printf("%s exit %d\n", attempts[i].name, WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: try --list | --all | NAME...\n");
		return 2;
	}
	for (int a = 1; a < argc; a++) {
		int known = 0;
		for (size_t i = 0; i < COUNT; i++) {
			if (!strcmp(argv[a], "--list"))
				known = puts(attempts[i].name) >= 0;
			else if (!strcmp(argv[a], "--all") || !strcmp(argv[a], attempts[i].name))
				known = 1, attempt(i);
		}
		if (!known) {
			fprintf(stderr, "try: %s is unknown\n", argv[a]);
			return 2;
		}
	}
	return 0;
}

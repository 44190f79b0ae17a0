/*
 * Without libc: makes exactly these calls, as fast as it can, and ends. The parent: getpid, clone (a fork), wait4,
 * getppid, exit_group; the child: getuid, clone (a thread of it), sched_yield, exit_group; the thread: gettid, exit.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

static char stack[4096] __attribute__((aligned(16)));
static volatile int done;

#if defined __x86_64__
static long call(long nr, long a, long b, long c, long d, long e)
{
	long r;
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
	__asm__ volatile("syscall" : "=a"(r) : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
	return r;
}
__asm__(".global _start\n_start: and $-16, %rsp\n call run\n");
#elif defined __aarch64__
static long call(long nr, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = nr, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
	              x3 __asm__("x3") = d, x4 __asm__("x4") = e;
	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
}
__asm__(".global _start\n_start: bl run\n");
#endif

static void child(void)
{
	long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;

	call(SYS_getuid, 0, 0, 0, 0, 0);
	if (call(SYS_clone, flags, (long)(stack + sizeof stack), 0, 0, 0) == 0) {
		call(SYS_gettid, 0, 0, 0, 0, 0);
		done = 1;
		call(SYS_exit, 0, 0, 0, 0, 0);
	}
	do
		call(SYS_sched_yield, 0, 0, 0, 0, 0);
	while (!done);
	call(SYS_exit_group, 0, 0, 0, 0, 0);
}

__attribute__((used, noinline)) void run(void)
{
	call(SYS_getpid, 0, 0, 0, 0, 0);
	long pid = call(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0)
		child();
	call(SYS_wait4, pid, 0, 0, 0, 0);
	call(SYS_getppid, 0, 0, 0, 0, 0);
	call(SYS_exit_group, 0, 0, 0, 0, 0);
	__builtin_unreachable();
}

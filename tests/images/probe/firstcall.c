/*
 * A program without libc whose very first instructions make one system call (NR and its arguments are given at compile
 * time). It then prints "NAME RETURN", the raw return value: what it is proves whether a filter was there before the
 * first instruction of the image ran. Stays for 1 s when it has an argument.
 */
#ifndef NR
#error "-DNR=number -DNAME=text -DA0=... -DA1=... -DA2=..."
#endif
#define STR2(x) #x
#define STR(x) STR2(x)

#if defined __x86_64__
#define NR_write 1
#define NR_nanosleep 35
#define NR_exit_group 231
__asm__(".global _start\n_start:\n"
        "mov $" STR(NR) ", %eax\n mov $" STR(A0) ", %rdi\n mov $" STR(A1) ", %rsi\n mov $" STR(A2) ", %rdx\n syscall\n"
        "mov %rax, %rdi\n mov (%rsp), %rsi\n and $-16, %rsp\n call report\n");
static long call3(long nr, long a, long b, long c)
{
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "0"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return r;
}
#elif defined __aarch64__
#define NR_write 64
#define NR_nanosleep 101
#define NR_exit_group 94
__asm__(".global _start\n_start:\n"
        "mov x8, #" STR(NR) "\n ldr x0, =" STR(A0) "\n ldr x1, =" STR(A1) "\n ldr x2, =" STR(A2) "\n svc #0\n"
        "ldr x1, [sp]\n bl report\n .ltorg\n");
static long call3(long nr, long a, long b, long c)
{
	register long x8 __asm__("x8") = nr, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
}
#else
#error "unknown architecture"
#endif

__attribute__((used)) void report(long result, long argc)
{
	static const char name[] = STR(NAME) " ";
	char text[64], *p = text + sizeof text;
	unsigned long value = result < 0 ? -(unsigned long)result : (unsigned long)result;

	*--p = '\n';
	do
		*--p = '0' + value % 10;
	while (value /= 10);
	if (result < 0)
		*--p = '-';
	for (unsigned i = sizeof name - 1; i-- > 0;)
		*--p = name[i];
	call3(NR_write, 1, (long)p, text + sizeof text - p);
	if (argc > 1) {
		long second[2] = {1, 0};
		call3(NR_nanosleep, (long)second, 0, 0);
	}
	call3(NR_exit_group, 0, 0, 0);
	__builtin_unreachable();
}

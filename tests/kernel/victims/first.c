/* Without a C library: the very first instruction of the entry point makes a call that is to be denied.
 * Exit code: the errno that it answered, 0 when it was allowed. */
void _start(void) {
#if defined(__x86_64__)
  __asm__ volatile(
      "mov $110, %eax\n syscall\n" /* getppid */
      "mov %rax, %rdi\n neg %rdi\n test %rax, %rax\n js 1f\n xor %edi, %edi\n"
      "1: mov $231, %eax\n syscall\n"); /* exit_group */
#else
#error "only x86_64 runs here"
#endif
}

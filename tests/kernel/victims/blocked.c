/* Blocks in one call and says what it returned:  blocked CALL  ->  "RESULT ERRNO MILLISECONDS" */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void on_signal(int number) { (void)number; }

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  struct timespec start, end, time = { 0, 600000000 };
  struct pollfd none;
  char byte;
  int word = 0;
  long result = -2;
  signal(SIGUSR1, on_signal);
  puts("ready");
  fflush(stdout);
  clock_gettime(CLOCK_MONOTONIC, &start);
  errno = 0;
  if (!strcmp(what, "nanosleep")) result = nanosleep(&time, NULL);
  if (!strcmp(what, "clock_nanosleep")) result = clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
  if (!strcmp(what, "read")) result = read(0, &byte, 1);
  if (!strcmp(what, "poll")) result = poll(&none, 0, 600);
  if (!strcmp(what, "ppoll")) { sigset_t set; sigemptyset(&set); result = ppoll(&none, 0, &time, &set); }
  if (!strcmp(what, "select")) { struct timeval left = { 0, 600000 }; result = select(0, NULL, NULL, NULL, &left); }
  if (!strcmp(what, "futex")) result = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &time, NULL, 0);
  if (!strcmp(what, "futex-bitset")) {
    struct timespec until = start;
    until.tv_nsec += 600000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    result = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &until, NULL, -1);
  }
  if (!strcmp(what, "pause")) result = pause();
  if (!strcmp(what, "wait")) { if (fork() == 0) { usleep(600000); _exit(7); } result = wait(NULL) > 0; }
  if (!strcmp(what, "compute")) {
    do { clock_gettime(CLOCK_MONOTONIC, &end); }
    while ((end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000 < 600);
    result = 0;
  }
  int number = errno;
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("%ld %d %ld\n", result, result < 0 ? number : 0,
         (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000);
  return 0;
}

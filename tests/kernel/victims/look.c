/* An entry point that prints what the kernel enforces on it, and what its first denied call answered. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
  long answer = syscall(SYS_getppid);
  int number = errno;
  char text[8192];
  int file = open("/proc/self/status", O_RDONLY);
  ssize_t length = read(file, text, sizeof text - 1);
  text[length > 0 ? length : 0] = 0;
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
    if (!strncmp(line, "Uid", 3) || !strncmp(line, "Gid", 3) || !strncmp(line, "Cap", 3) ||
        !strncmp(line, "NoNew", 5) || !strncmp(line, "Seccomp", 7) || !strncmp(line, "SigBlk", 6))
      puts(line);
  printf("getppid:\t%s\n", answer == -1 ? (number == EPERM ? "EPERM" : "error") : "allowed");
  printf("caught:\t%s\n", getenv("CAUGHT") ? getenv("CAUGHT") : "");
  return 0;
}

/* Stands in for a runtime's init: waits for a byte on stdin, then becomes a program.
 *
 *   init [-t THREADS] [-T] [-s | -f | -c] [-u UID] [-k] [-g] PROGRAM [ARG...]
 *   -t THREADS  that many threads sleep meanwhile      -T  a thread that isn't the leader calls execve
 *   -s          a thread keeps making short-lived threads
 *   -f          a thread keeps forking children, which live for a moment
 *   -c          a thread keeps making processes with clone and an exit signal other than SIGCHLD
 *   -u UID      change to this user and group before execve
 *   -k          attach a filter that kills at capset and seccomp before execve
 *   -g          SIGUSR1 is caught; how often goes into the environment as CAUGHT
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char **program;
static int user = -1, killing, from_thread;
static volatile sig_atomic_t caught;

static void on_signal(int number) { caught += number == SIGUSR1; }
static void *sleeper(void *unused) { for (;;) pause(); return unused; }
static void *brief(void *unused) { return unused; }

static void *spawner(void *unused) {
  for (;;) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, brief, NULL) == 0) pthread_join(thread, NULL);
  }
  return unused;
}

static void *forker(void *unused) {
  for (;;) {
    pid_t child = fork();
    if (child == 0) { usleep(1000); _exit(0); }
    if (child > 0) waitpid(child, NULL, 0);
  }
  return unused;
}

static void *cloner(void *unused) {
  for (;;) {
    long child = syscall(SYS_clone, SIGUSR2, 0, 0, 0, 0);
    if (child == 0) { usleep(1000); _exit(0); }
    if (child > 0) waitpid(child, NULL, __WALL);
  }
  return unused;
}

static void die(const char *what) { perror(what); _exit(99); }

static void become(void) {
  if (killing) {
    struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_capset, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = { sizeof code / sizeof *code, code };
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog)) die("filter");
  }
  if (user >= 0 && (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setresgid, user, user, user) ||
                    syscall(SYS_setresuid, user, user, user))) die("user");
  char text[16];
  snprintf(text, sizeof text, "%d", (int)caught);
  setenv("CAUGHT", text, 1);
  execv(program[0], program);
  die("execv");
}

static void *other(void *unused) {
  char byte;
  while (read(0, &byte, 1) < 0) {}
  become();
  return unused;
}

int main(int argc, char **argv) {
  int threads = 0, option;
  void *(*extra)(void *) = NULL;
  while ((option = getopt(argc, argv, "+t:Tsfcu:kg")) != -1) switch (option) {
    case 't': threads = atoi(optarg); break;
    case 'T': from_thread = 1; break;
    case 's': extra = spawner; break;
    case 'f': extra = forker; break;
    case 'c': extra = cloner; signal(SIGUSR2, SIG_IGN); break;
    case 'u': user = atoi(optarg); break;
    case 'k': killing = 1; break;
    case 'g': {
      struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
      sigaction(SIGUSR1, &action, NULL);
      break;
    }
    default: return 98;
  }
  program = argv + optind;
  pthread_t thread;
  for (int i = 0; i < threads; i++)
    if (pthread_create(&thread, NULL, sleeper, NULL)) die("pthread_create");
  if (extra && pthread_create(&thread, NULL, extra, NULL)) die("pthread_create");
  puts("ready");
  fflush(stdout);
  if (from_thread) {
    if (pthread_create(&thread, NULL, other, NULL)) die("pthread_create");
    for (;;) pause();
  }
  other(NULL);
}

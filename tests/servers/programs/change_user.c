/* Changes to a user and a group for good, as su-exec and gosu do, and runs a program: change_user UID GID PROGRAM [ARG...] */
#define _GNU_SOURCE
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	gid_t group;
	if (argc < 4)
		return 2;
	group = strtoul(argv[2], NULL, 10);
	if (setgroups(1, &group) || setgid(group) || setuid(strtoul(argv[1], NULL, 10))) {
		perror("change_user");
		return 1;
	}
	execvp(argv[3], argv + 3);
	perror(argv[3]);
	return 127;
}

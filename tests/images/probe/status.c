/* Prints the lines of /proc/self/status (or of the file that is named) that say how a process is confined. */
#include <stdio.h>
#include <string.h>

static const char *const keys[] = {"Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:",
                                   "NoNewPrivs:", "Seccomp:", "Seccomp_filters:"};

int main(int argc, char **argv)
{
	char line[4096];
	FILE *f = fopen(argc > 1 ? argv[1] : "/proc/self/status", "r");

	if (!f) {
		perror("/proc/self/status");
		return 1;
	}
	while (fgets(line, sizeof line, f))
		for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
			if (!strncmp(line, keys[i], strlen(keys[i])))
				fputs(line, stdout);
	return 0;
}

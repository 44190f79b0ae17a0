/* Takes a name that wants to be acted on by whoever prints it, then makes a call that profiles deny, COUNT times: named [COUNT] */
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	prctl(PR_SET_NAME, "\033[2J\n\"x=1 \x01");
	for (int i = 0; i < (argc > 1 ? atoi(argv[1]) : 3); i++)
		syscall(SYS_mincore, 0, 0, 0);
	return 0;
}

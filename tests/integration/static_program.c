/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Linked statically by test_sim_static.py, so that no library is loaded into it. With words it becomes those,
 * else it tells what it sees of Xen, a line each, and ends with 7. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Asks for the node "domid", and prints the answer. */
static void ask(const char *what, int fd)
{
	struct {
		unsigned type, request, transaction, length;
		char text[64];
	} message = {2, 1, 0, 6, "domid"};

	if (fd < 0 || write(fd, &message, 22) != 22 || read(fd, &message, 16) != 16 || message.length >= 64 ||
	    read(fd, message.text, message.length) != (ssize_t)message.length) {
		printf("%s: %s\n", what, strerror(errno));
		return;
	}
	message.text[message.length] = '\0';
	printf("%s: %s\n", what, message.text);
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/run/xenstored/socket"};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), file = open("/sys/hypervisor/guest_type", O_RDONLY);
	char type[16] = "";
	struct stat status;

	if (argc > 1) {
		execv(argv[1], argv + 1);
		return 1;
	}
	ask("xenbus", open("/dev/xen/xenbus", O_RDWR));
	ask("socket", connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -1 : fd);
	printf("type: %s", read(file, type, sizeof(type) - 1) > 0 ? type : strerror(errno));
	printf("gntdev: %s\n", open("/dev/xen/gntdev", O_RDWR) < 0 ? strerror(errno) : "");
	printf("there: %d %d %d\n", access("/dev/xen/evtchn", F_OK), stat("/proc/xen/capabilities", &status),
	       access("/etc/passwd", R_OK));
	return 7;
}

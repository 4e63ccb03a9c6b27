/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/socket.h>

#include "protocol.h"

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(PACKET_FDS_MAX * sizeof(int))];
};

static size_t take_fds(struct msghdr *message, int fds[static PACKET_FDS_MAX])
{
	size_t n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t size = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || n > 0 ||
		    size > PACKET_FDS_MAX * sizeof(int))
			continue;
		memcpy(fds, CMSG_DATA(c), size);
		n = size / sizeof(int);
	}
	return n;
}

ssize_t packet_receive(int socket, void *buffer, size_t size, int flags, int *ret_fds, size_t max_fds)
{
	/* For descriptors that don't fit the kernel says MSG_CTRUNC, and closes them; but sizes are rounded up. */
	int fds[PACKET_FDS_MAX];
	size_t n_fds;
	union control control;
	struct iovec iov = { .iov_base = buffer, .iov_len = size };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = CMSG_SPACE(max_fds * sizeof(int)),
	};
	ssize_t n;

	do
		n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return negative_errno();

	n_fds = take_fds(&message, fds);
	if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || n_fds > max_fds) {
		for (size_t i = 0; i < n_fds; i++)
			close(fds[i]);
		return -EBADMSG;
	}
	for (size_t i = 0; i < max_fds; i++)
		ret_fds[i] = i < n_fds ? fds[i] : -EBADF;
	return n;
}

int packet_send(int socket, const void *buffer, size_t size, int flags, const int *fds, size_t n_fds)
{
	union control control = {};
	struct iovec iov = { .iov_base = (void *)buffer, .iov_len = size };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (n_fds > 0) {
		control.align = (struct cmsghdr){
			.cmsg_len = CMSG_LEN(n_fds * sizeof(int)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
		};
		memcpy(CMSG_DATA(&control.align), fds, n_fds * sizeof(int));
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
	}

	do
		n = sendmsg(socket, &message, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : negative_errno();
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "internal.h"

#include <sys/socket.h>

#define GROUPS_MAX 65536 /* NGROUPS_MAX */

/* The supplementary groups at connect(2); *ret is the caller's. */
static int get_groups(int fd, gid_t **ret, size_t *ret_n)
{
	_cleanup_free_ gid_t *groups = NULL;
	socklen_t size = 64 * sizeof(gid_t);

	for (;;) {
		free(groups);
		groups = malloc(size);
		if (!groups)
			return -ENOMEM;
		if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0)
			break;
		/* The kernel said how much there is. */
		if (errno != ERANGE || size > GROUPS_MAX * sizeof(gid_t))
			return negative_errno();
	}
	*ret = TAKE_PTR(groups);
	*ret_n = size / sizeof(gid_t);
	return 0;
}

int peer_get(int fd, gid_t group, struct peer *ret)
{
	_cleanup_free_ gid_t *groups = NULL;
	struct ucred credentials;
	socklen_t size = sizeof(credentials);
	struct peer peer;
	size_t n;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
		return negative_errno();
	peer.uid = credentials.uid;
	peer.privileged = credentials.uid == 0;
	if (!peer.privileged && group != (gid_t)-1) {
		peer.privileged = credentials.gid == group;
		/* Not to know the groups costs what they would give. */
		if (!peer.privileged && get_groups(fd, &groups, &n) >= 0)
			for (size_t i = 0; i < n; i++)
				peer.privileged |= groups[i] == group;
	}
	*ret = peer;
	return 0;
}

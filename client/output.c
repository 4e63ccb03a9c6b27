/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "output.h"

#include <fcntl.h>
#include <sys/stat.h>

#define MODE 0666 /* less what the umask takes */

static bool tell(const char *path)
{
	log_error("Can't write %s: %s.", path, strerror(errno));
	return false;
}

static bool open_in_place(struct output *o)
{
	o->file = fopen(o->path, "we");
	return o->file ? true : tell(o->path);
}

static bool open_beside(struct output *o)
{
	mode_t mask = umask(0);
	int fd;

	umask(mask);
	if (asprintf(&o->temporary, "%s.XXXXXX", o->path) < 0) {
		o->temporary = NULL;
		log_error("Out of memory.");
		return false;
	}
	fd = mkostemp(o->temporary, O_CLOEXEC);
	if (fd < 0) {
		tell(o->path);
		free(o->temporary);
		o->temporary = NULL;
		return false;
	}
	if (fchmod(fd, MODE & ~mask) == 0)
		o->file = fdopen(fd, "w");
	if (o->file)
		return true;
	tell(o->path);
	close(fd);
	return false;
}

bool output_open(struct output *ret, const char *path)
{
	struct stat st;
	bool good;

	*ret = (struct output) {};
	if (!path || streq(path, "-")) {
		ret->file = stdout;
		return true;
	}
	ret->path = path;
	/* A directory is refused by the open, with its own reason. */
	good = stat(path, &st) == 0 && !S_ISREG(st.st_mode) ? open_in_place(ret) : open_beside(ret);
	if (!good)
		output_done(ret);
	return good;
}

bool output_commit(struct output *o)
{
	bool failed;
	int error;

	if (!o->path)
		return true; /* show_finish() looks after stdout */
	/* What couldn't be written is still there, so that this fails for the same reason. */
	errno = 0;
	failed = fflush(o->file) != 0 || ferror(o->file);
	error = failed && errno == 0 ? EIO : errno;
	if (fclose(TAKE_PTR(o->file)) != 0 && !failed) {
		failed = true;
		error = errno;
	}
	if (failed) {
		errno = error;
		return tell(o->path);
	}
	if (o->temporary && rename(o->temporary, o->path) < 0)
		return tell(o->path);
	free(o->temporary);
	o->temporary = NULL;
	return true;
}

void output_done(struct output *o)
{
	if (o->path && o->file)
		fclose(o->file);
	if (o->temporary)
		unlink(o->temporary);
	free(o->temporary);
	*o = (struct output) {};
}

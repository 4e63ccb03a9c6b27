/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "allocator_files.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "symbol.h"

#define QUESTIONS_MAX 8 /* to the parser at a time: others ask, too */
#define LINE_SIZE 4352  /* of /proc/PID/maps */

void allocator_file_path(char ret[static ALLOCATOR_FILE_PATH_SIZE], pid_t pid, const struct allocator_file *file)
{
	snprintf(ret, ALLOCATOR_FILE_PATH_SIZE, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid, file->start, file->end);
}

/* Only a regular file is opened: opening a device may do something. */
static int open_file(pid_t pid, struct allocator_file *file)
{
	_cleanup_close_ int fd = -EBADF;
	char path[ALLOCATOR_FILE_PATH_SIZE];
	struct stat st;

	allocator_file_path(path, pid, file);
	if (stat(path, &st) < 0)
		return negative_errno();
	if (!S_ISREG(st.st_mode))
		return -EBADF;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return negative_errno();
	if (fstat(fd, &st) < 0)
		return negative_errno();
	file->key = symbols_file_key(&st);
	return TAKE_FD(fd);
}

/* False: no code of a file. */
static bool parse_mapping(const char *line, struct allocator_file *ret)
{
	unsigned major, minor;
	char mode[5];

	*ret = (struct allocator_file){ 0 };
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64, &ret->start, &ret->end, mode, &ret->offset, &major, &minor,
	           &ret->inode) != 7 || mode[2] != 'x' || !ret->inode)
		return false;
	ret->device = (dev_t)major << 32 | minor;
	return true;
}

/* A file whose code is mapped in parts is taken by its first. */
int allocator_files_read(struct allocator_files *f, pid_t pid)
{
	_cleanup_fclose_ FILE *maps = NULL;
	char path[32], line[LINE_SIZE];

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	if (!maps)
		return negative_errno();
	f->items = calloc(ALLOCATOR_FILES_MAX, sizeof(*f->items));
	if (!f->items)
		return -ENOMEM;
	while (f->n < ALLOCATOR_FILES_MAX && fgets(line, sizeof(line), maps)) {
		struct allocator_file file;
		size_t k = 0;

		if (!parse_mapping(line, &file))
			continue;
		while (k < f->n && (f->items[k].device != file.device || f->items[k].inode != file.inode))
			k++;
		if (k == f->n)
			f->items[f->n++] = file;
	}
	return 0;
}

void allocator_files_done(struct allocator_files *f)
{
	for (size_t k = 0; k < f->n; k++)
		free(f->items[k].functions);
	free(f->items);
	*f = (struct allocator_files){ 0 };
}

void allocator_files_ask(struct allocator_files *f, pid_t pid, struct helper *helper)
{
	while (f->asked < f->n && f->asked - f->answered < QUESTIONS_MAX) {
		struct allocator_file *file = &f->items[f->asked];
		_cleanup_close_ int fd = open_file(pid, file);
		int r = fd < 0 ? fd : parser_ask_allocators(helper, file->key, fd, &file->request);

		if (r == -EAGAIN)
			return;
		f->asked++;
		f->answered += r < 0;
	}
}

struct allocator_file *allocator_files_asked(struct allocator_files *f, uint64_t request)
{
	for (size_t k = 0; k < f->asked; k++)
		if (f->items[k].request == request)
			return &f->items[k];
	return NULL;
}

/* Keeps those that are in the part of the file that is known to be mapped. */
static int keep_functions(struct allocator_file *file, const struct parser_reply *reply)
{
	file->functions = calloc(MAX(reply->n, (size_t)1), sizeof(*file->functions));
	if (!file->functions)
		return -ENOMEM;
	for (size_t k = 0; k < reply->n; k++) {
		const struct parser_allocator *a = &reply->allocators[k];
		uint64_t start = file->start + (a->offset - file->offset);

		if (a->offset >= file->offset && a->offset - file->offset < file->end - file->start)
			file->functions[file->n_functions++] = (struct collect_heap_function){
				.offset = a->offset, .start = start, .end = start + a->size, .call = a->call,
			};
	}
	return 0;
}

int allocator_files_take(struct allocator_files *f, struct allocator_file *file, const struct parser_reply *reply)
{
	file->request = 0;
	/* Of a parser that ended meanwhile, which may be another file's fault, nothing is known: this one's turn comes once more. */
	if (reply->error < 0 && !file->asked_again) {
		struct allocator_file again = *file;

		again.asked_again = true;
		*file = f->items[--f->asked];
		f->items[f->asked] = again;
		return 0;
	}
	f->answered++;
	return reply->error >= 0 ? keep_functions(file, reply) : 0;
}

bool allocator_files_answered(const struct allocator_files *f)
{
	return f->answered == f->n;
}

bool allocator_files_any(const struct allocator_files *f)
{
	for (size_t k = 0; k < f->n; k++)
		if (f->items[k].n_functions > 0)
			return true;
	return false;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes that live for 20 ms, one after the other, --n of each kind: some only fork, some execute this program anew, some
 * load a library then, and some execute a copy that only a mount namespace of their own has. */
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/wait.h>

#include "workload.h"

#define LIFE_NS (20 * MSEC)
#define PLACE "/mnt"
#define COPY PLACE "/wl_short_copy"

static struct workload_options options = {.n = 50};

static inline __attribute__((always_inline)) void live(void)
{
	uint64_t until = cpu_ns() + LIFE_NS;

	while (cpu_ns() < until)
		workload_sink = arithmetic(workload_sink);
	KEEP_FRAME();
}

NAMED void life_forked(void)
{
	live();
}

NAMED void life_executed(void)
{
	live();
}

NAMED void life_loaded(void)
{
	live();
}

NAMED void life_apart(void)
{
	live();
}

static int load(void)
{
	void *library = dlopen("libwl_unwind_plugin.so", RTLD_NOW);
	void (*plugin_call_back)(void (*)(void)) =
		library ? (void (*)(void (*)(void)))dlsym(library, "plugin_call_back") : NULL;

	if (!plugin_call_back) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	plugin_call_back(life_loaded);
	return 0;
}

/* The copy is on a file system that nobody outside sees. */
static void go_apart(void)
{
	int from, to;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", PLACE, "tmpfs", 0, NULL) < 0)
		fail("mount");
	from = open("/proc/self/exe", O_RDONLY);
	to = open(COPY, O_WRONLY | O_CREAT, 0755);
	if (from < 0 || to < 0 || sendfile(to, from, NULL, 1 << 30) <= 0)
		fail("copy");
	close(from);
	close(to);
}

static void start(const char *mode)
{
	const char *path = strcmp(mode, "apart") == 0 ? COPY : "/proc/self/exe";
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		if (strcmp(mode, "forked") != 0) {
			execl(path, "short", "--mode", mode, NULL);
			fail("exec");
		}
		life_forked();
		_exit(0);
	}
	if (waitpid(pid, NULL, 0) < 0)
		fail("wait");
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"forked", "executed", "loaded", "apart"};

	workload_parse(argc, argv, &options);
	if (options.mode && strcmp(options.mode, "executed") == 0)
		return life_executed(), 0;
	if (options.mode && strcmp(options.mode, "loaded") == 0)
		return load();
	if (options.mode && strcmp(options.mode, "apart") == 0)
		return life_apart(), 0;
	workload_ready(&options);
	for (size_t k = 0; k < sizeof modes / sizeof modes[0]; k++) {
		if (strcmp(modes[k], "apart") == 0)
			go_apart();
		for (uint64_t i = 0; i < options.n; i++)
			start(modes[k]);
	}
	workload_result(&options, "\"each_ns\": %llu", (unsigned long long)(options.n * LIFE_NS));
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control sequences are those of ECMA-48 and xterm, which every terminal of today and the Linux console take. */
#include "screen.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <termios.h>

#define COLUMNS_DEFAULT 80
#define LINES_DEFAULT 24
#define SEQUENCE_MAX 32      /* bytes of one key; more is no key */
#define ESCAPE_WAIT_MS 50    /* for the rest of a sequence, before Escape is taken for the key of that name */
#define MESSAGES_MAX 65536   /* bytes kept of what stderr is told */

/* Another page, cursor hidden, lines cut off at the right edge; and back. */
#define ENTER "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
#define LEAVE "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"

struct screen {
	struct termios before, raw;
	sigset_t mask_before;
	int signal_fd, messages_fd, stderr_fd;
	unsigned columns, lines;
	char input[SEQUENCE_MAX];
	size_t n_input;
	int signal;
	bool taken, gone;
};

/* ---- taking the terminal, and giving it back ---- */

static void write_all(struct screen *s, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t written = write(STDOUT_FILENO, bytes, n);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0) {
			s->gone = true;
			return;
		}
		bytes += written;
		n -= written;
	}
}

static void measure(struct screen *s)
{
	struct winsize size = {};

	ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	s->columns = size.ws_col > 0 ? size.ws_col : COLUMNS_DEFAULT;
	s->lines = size.ws_row > 0 ? size.ws_row : LINES_DEFAULT;
}

static int take(struct screen *s)
{
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &s->raw) < 0)
		return negative_errno();
	s->taken = true;
	write_all(s, ENTER, strlen(ENTER));
	measure(s);
	return 0;
}

static int take_first(struct screen *s)
{
	if (tcgetattr(STDIN_FILENO, &s->before) < 0)
		return negative_errno();
	s->raw = s->before;
	/* Ctrl-C and Ctrl-Z stay what they are. */
	s->raw.c_lflag &= ~(ICANON | ECHO);
	s->raw.c_iflag |= ICRNL;
	s->raw.c_cc[VMIN] = 1;
	s->raw.c_cc[VTIME] = 0;
	return take(s);
}

static void give_back(struct screen *s)
{
	if (!s->taken)
		return;
	s->taken = false;
	write_all(s, LEAVE, strlen(LEAVE));
	tcsetattr(STDIN_FILENO, TCSADRAIN, &s->before);
}

/* stderr is mostly the same terminal, and what is told there would be lost among what is drawn. */
static int keep_messages(struct screen *s)
{
	s->stderr_fd = dup(STDERR_FILENO);
	s->messages_fd = memfd_create("messages", MFD_CLOEXEC);
	if (s->stderr_fd < 0 || s->messages_fd < 0 || dup2(s->messages_fd, STDERR_FILENO) < 0)
		return negative_errno();
	return 0;
}

char *screen_take_messages(struct screen *s)
{
	struct stat st;
	size_t size;
	ssize_t n;
	char *text;

	fflush(stderr);
	size = fstat(s->messages_fd, &st) < 0 ? 0 : MIN((size_t)st.st_size, (size_t)MESSAGES_MAX);
	text = malloc(size + 1);
	if (!text)
		return NULL;
	n = pread(s->messages_fd, text, size, 0);
	if (n > 0 && text[n - 1] == '\n')
		n--;
	text[MAX(n, 0)] = 0;
	if (ftruncate(s->messages_fd, 0) < 0 || lseek(s->messages_fd, 0, SEEK_SET) < 0)
		*text = 0;
	return text;
}

static void tell_messages(struct screen *s)
{
	_cleanup_free_ char *text = s->messages_fd < 0 ? NULL : screen_take_messages(s);

	if (s->stderr_fd >= 0)
		dup2(s->stderr_fd, STDERR_FILENO);
	if (text && *text)
		fprintf(stderr, "%s\n", text);
}

static int take_signals(struct screen *s)
{
	static const int signals[] = { SIGWINCH, SIGTSTP, SIGCONT, SIGINT, SIGQUIT, SIGTERM, SIGHUP };
	sigset_t mask;

	sigemptyset(&mask);
	for (size_t i = 0; i < ELEMENTS_OF(signals); i++)
		sigaddset(&mask, signals[i]);
	if (sigprocmask(SIG_BLOCK, &mask, &s->mask_before) < 0)
		return negative_errno();
	s->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signal_fd < 0 ? negative_errno() : 0;
}

int screen_open(struct screen **ret)
{
	_cleanup_(screen_closep) struct screen *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->signal_fd = s->messages_fd = s->stderr_fd = -EBADF;
	sigprocmask(SIG_BLOCK, NULL, &s->mask_before);
	r = take_signals(s);
	if (r >= 0)
		r = keep_messages(s);
	if (r >= 0)
		r = take_first(s);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

struct screen *screen_close(struct screen *s)
{
	if (!s)
		return NULL;
	give_back(s);
	tell_messages(s);
	close_fd(s->messages_fd);
	close_fd(s->stderr_fd);
	close_fd(s->signal_fd);
	sigprocmask(SIG_SETMASK, &s->mask_before, NULL);
	free(s);
	return NULL;
}

unsigned screen_columns(const struct screen *s)
{
	return s->columns;
}

unsigned screen_lines(const struct screen *s)
{
	return s->lines;
}

int screen_signal(const struct screen *s)
{
	return s->signal;
}

/* ---- drawing ---- */

void screen_draw(struct screen *s, const char *text)
{
	_cleanup_free_ char *picture = NULL;
	size_t size;
	FILE *f = open_memstream(&picture, &size);

	if (!f)
		return;
	fputs("\x1b[H", f);
	for (unsigned i = 0; *text && i < s->lines; i++) {
		size_t n = strcspn(text, "\n");

		fprintf(f, "%s%.*s\x1b[K", i > 0 ? "\r\n" : "", (int)n, text);
		text += n + (text[n] == '\n');
	}
	fputs("\x1b[J", f);
	if (fclose(f) == 0)
		write_all(s, picture, size);
}

/* ---- keys ---- */

/* ESC [ NUMBER ~: keys of the six-block. */
static int numbered_key(int number)
{
	switch (number) {
	case 1:
	case 7:
		return KEY_HOME;
	case 4:
	case 8:
		return KEY_END;
	case 5:
		return KEY_PAGE_UP;
	case 6:
		return KEY_PAGE_DOWN;
	default:
		return KEY_NONE;
	}
}

static int lettered_key(char c)
{
	switch (c) {
	case 'A':
		return KEY_UP;
	case 'B':
		return KEY_DOWN;
	case 'C':
		return KEY_RIGHT;
	case 'D':
		return KEY_LEFT;
	case 'H':
		return KEY_HOME;
	case 'F':
		return KEY_END;
	default:
		return KEY_NONE;
	}
}

size_t key_decode(const char *bytes, size_t n, int *ret)
{
	size_t at = 2;

	if (n == 0)
		return 0;
	*ret = bytes[0] == '\b' ? KEY_BACKSPACE : (unsigned char)bytes[0];
	if (bytes[0] != KEY_ESCAPE)
		return 1;
	if (n == 1)
		return 0;
	if (bytes[1] != '[' && bytes[1] != 'O')
		return 1;
	/* Parameters are from 0x30 to 0x3f, what closes a sequence from 0x40 on. */
	while (at < n && bytes[at] >= 0x20 && bytes[at] < 0x40)
		at++;
	if (at == n)
		return 0;
	*ret = bytes[at] == '~' ? numbered_key(atoi(bytes + 2)) : lettered_key(bytes[at]);
	return at + 1;
}

/* Takes a key out of what was read. last: nothing more will come soon. */
static bool next_key(struct screen *s, bool last, int *ret)
{
	size_t n = key_decode(s->input, s->n_input, ret);

	if (n == 0 && s->n_input > 0 && (last || s->n_input == sizeof(s->input))) {
		*ret = s->n_input == 1 ? KEY_ESCAPE : KEY_NONE;
		n = s->n_input;
	}
	s->n_input -= n;
	memmove(s->input, s->input + n, s->n_input);
	return n > 0;
}

static void read_input(struct screen *s)
{
	ssize_t n = read(STDIN_FILENO, s->input + s->n_input, sizeof(s->input) - s->n_input);

	if (n > 0)
		s->n_input += n;
	else if (n == 0 || errno != EINTR)
		s->gone = true;
}

/* ---- signals ---- */

/* Whoever had the terminal meanwhile has left it in another mode. */
static void take_again(struct screen *s)
{
	if (take(s) < 0)
		s->gone = true;
}

static enum screen_event read_signals(struct screen *s)
{
	struct signalfd_siginfo info;

	while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGWINCH:
			measure(s);
			break;
		case SIGTSTP:
			give_back(s);
			raise(SIGSTOP);
			take_again(s);
			break;
		case SIGCONT:
			take_again(s);
			break;
		default:
			s->signal = info.ssi_signo;
			return SCREEN_END;
		}
	}
	return SCREEN_REDRAW;
}

enum screen_event screen_wait(struct screen *s, int fd, uint64_t timeout_us, int *ret_key)
{
	struct pollfd fds[] = {
		{ .fd = s->signal_fd, .events = POLLIN },
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = fd, .events = POLLIN },
	};
	int timeout_ms = MIN(timeout_us / USEC_PER_MSEC, (uint64_t)INT32_MAX);

	if (s->gone)
		return SCREEN_END;
	if (next_key(s, false, ret_key))
		return SCREEN_KEY;
	if (poll(fds, ELEMENTS_OF(fds), s->n_input > 0 ? ESCAPE_WAIT_MS : timeout_ms) <= 0)
		return next_key(s, true, ret_key) ? SCREEN_KEY : SCREEN_TIMEOUT;
	if (fds[0].revents)
		return read_signals(s);
	if (fds[1].revents)
		read_input(s);
	if (s->gone)
		return SCREEN_END;
	if (fds[1].revents && next_key(s, false, ret_key))
		return SCREEN_KEY;
	return fds[2].revents ? SCREEN_READABLE : SCREEN_TIMEOUT;
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "help.h"

#include "show.h"

static void heading(const struct options *o, const char *text)
{
	printf("\n%s%s:%s\n", term_colour(&o->term, COLOUR_UNDERLINE), text, term_reset(&o->term));
}

static void verbs(const struct options *o)
{
	heading(o, "Commands");
	puts("  status              Show how stackd is doing (the default)\n"
	     "  anomalies           List what was out of the ordinary, oldest first\n"
	     "  explain ANOMALY     Tell all that is known of one: what moved, its stack and series\n"
	     "  incidents [ID]      List troubles, one line for what belongs together; or show one\n"
	     "  clusters [ID]       List kinds of trouble that recur, most frequent first; or show one\n"
	     "                      and what to do about it\n"
	     "  mute CLUSTER        Do not tell of it any more\n"
	     "  unmute CLUSTER      Do again\n"
	     "  label INCIDENT real|false [KIND]\n"
	     "                      Say whether an incident was worth telling, and what it was\n"
	     "  check               Answer as monitoring plug-ins do: 0 ok, 1 warning, 2 critical,\n"
	     "                      3 unknown\n"
	     "  flame [FILE]        Print folded stacks, as flame graph tools take them; or draw them,\n"
	     "                      those of FILE (\"-o x.svg\")\n"
	     "  heat [TIME]         Show when there was how much of a metric, on-cpu within seconds, and\n"
	     "                      how to look into the window with most, or that of TIME, which may\n"
	     "                      be SINCE/UNTIL or SINCE/+SPAN\n"
	     "  top                 Show the functions or stacks with most of a metric; on a terminal it\n"
	     "                      goes on as top(1) does, press h for its keys\n"
	     "  stacks [ID]         List stacks, or show one: its frames, series and processes\n"
	     "  missing-debug       List files that lack names for want of their debug files\n"
	     "  processes           List processes with their exact totals\n"
	     "  compare-perf [-- COMMAND [ARG...]]\n"
	     "                      Record with perf, too, a command or for a while, and tell whether\n"
	     "                      the two agree by function\n"
	     "  leaks               List what watched heaps hold, by who allocated it, what grows first\n"
	     "  watch-memory        Watch the heap of a process (--pid), those of a --unit or\n"
	     "                      --cgroup, or the memory of the --kernel; or list what is\n"
	     "                      watched\n"
	     "  unwatch-memory      End that\n"
	     "  import [FILE]       Read a recording, to be asked of with --import; or list those\n"
	     "  imports             List them, too\n"
	     "  gate [open|close|auto]\n"
	     "                      Show the gate and its changes; or hold it open or closed");
}

static void filters(const struct options *o)
{
	heading(o, "What to look at");
	puts("  -S --since=TIME     Not before: 10m (ago), -5min, 10:00, today, \"2026-11-23 10:00:00\",\n"
	     "                      2026-11-23T10:00:00Z, @1795428000; see systemd.time(7)\n"
	     "  -U --until=TIME     Not after\n"
	     "  -p --pid=PID        Only this process\n"
	     "     --kernel         watch-memory, unwatch-memory: the kernel's own memory\n"
	     "  -u --unit=UNIT      Only this systemd unit\n"
	     "     --cgroup=PATH    Only this control group and those below it\n"
	     "     --comm=NAME      Only processes of this name\n"
	     "     --exe=PATH       Only processes of this executable\n"
	     "  -m --metric=METRIC  flame, heat, top, stacks: on-cpu (the default), blocked, runnable,\n"
	     "                      off-cpu, faults-minor, faults-major, faults-file, faults-anon, hits,\n"
	     "                      brk, mmap, heap, rss, kmem\n"
	     "  -t --type=TYPE      anomalies: spike, drop, level-shift, new-stack, vanished-stack,\n"
	     "                      slow-growth, cost-shift, new-code\n"
	     "     --stack=ID       flame, heat: only this stack\n"
	     "     --exact          flame, stacks: only samples taken in the window, not whole seconds;\n"
	     "                      on-cpu, of the last minutes\n"
	     "     --threads        flame: by thread, of such samples\n"
	     "     --tid=TID        flame: only this thread, of such samples\n"
	     "     --step=TIME      heat: of a row (50ms, in a picture 20ms), or 1s\n"
	     "     --by=WHAT        top: function (the default), stack\n"
	     "  -n --lines=N        At most N: the newest, or the largest; or \"all\"\n"
	     "     --lines          stacks ID: where in the sources its calls are\n"
	     "  -b --batch          top: print once, also on a terminal, as with -n\n"
	     "  -d --delay=TIME     top: ask again after so long (1s)\n"
	     "  -f --follow         anomalies: go on with new ones as they are found; incidents: with\n"
	     "                      those that open, grow and close\n"
	     "     --for=TIME       gate open, gate close, mute, watch-memory: only so long;\n"
	     "                      compare-perf: record so long (10s)\n"
	     "     --import=NAME    Ask of an import instead of stackd\n"
	     "     --name=NAME      import: call it so\n"
	     "     --event=EVENT    import: only the samples of this event of perf's\n"
	     "     --remove=NAME    import: remove that one\n"
	     "     --report         status: everything, for a bug report");
}

static void pictures(const struct options *o)
{
	heading(o, "What flame draws");
	puts("  -o --output=FILE    Write there; the end of the name says the format: .folded, .txt,\n"
	     "                      .svg, .html, .speedscope.json, .pb.gz (pprof), .json (d3);\n"
	     "                      of heat: .svg\n"
	     "     --format=FORMAT  folded (the default), svg, html, speedscope, pprof, d3\n"
	     "     --hot-cold       Wall time: on-CPU and off-CPU in one picture\n"
	     "     --diff=A..B      What changed between two windows, each SINCE/UNTIL or SINCE/+SPAN\n"
	     "     --diff=SPAN      The last SPAN and the one before it\n"
	     "     --diff=pid:A..pid:B\n"
	     "                      Two processes in one window\n"
	     "     --diff=A..B      Two imports by their names, or an import and a file\n"
	     "     --diff=FILE FILE Two files of folded stacks; needs no stackd\n"
	     "     --anomaly=ID     What changed from the minute before an anomaly to its duration\n"
	     "     --incident=ID    The same for an incident, in its programs and its metric\n"
	     "     --cluster=ID     The same for the latest incident of a cluster\n"
	     "     --inlines        Inlined functions, too, by debug information\n"
	     "     --icicle         Callers above callees\n"
	     "     --inverted       The same, as flamegraph.pl calls it\n"
	     "     --width=PIXELS   From 320 to 16384, default 1200\n"
	     "     --title=TEXT     In place of what was looked at");
}

static void output(const struct options *o)
{
	heading(o, "Output and others");
	puts("  -j --json[=MODE]    One JSON document: pretty, short, off\n"
	     "     --no-legend      No column headers\n"
	     "     --no-pager       Do not pipe into a pager\n"
	     "  -l --full           Cut nothing off\n"
	     "  -q --quiet          No hints\n"
	     "  -v --verbose        flame, top, stacks: the window and what was lost, on stderr\n"
	     "     --socket=PATH    Where stackd listens ($STACKD_SOCKET, /run/stackd/org.stackd)\n"
	     "  -h --help           Show this help\n"
	     "     --version        Show the version");
}

void help_show(const struct options *o)
{
	const char *bold = term_colour(&o->term, COLOUR_BOLD), *end = term_reset(&o->term);

	show_begin(o);
	puts("stackctl [OPTIONS...] [COMMAND] [ARGUMENT]");
	printf("\n%sAsk stackd, the flight recorder for call stacks.%s\n", bold, end);
	verbs(o);
	filters(o);
	pictures(o);
	output(o);
	puts("\nSee stackctl(1) for details.");
}

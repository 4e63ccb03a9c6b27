/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The manager, for its own files only: manager.c starts, runs and stops all, manager_config.c says what each room is told of the
 * configuration, manager_answers.c what the API asks of the daemon as a whole. */
#pragma once

#include <ev.h>
#include <sys/utsname.h>

#include "alert.h"
#include "api.h"
#include "arena.h"
#include "collect.h"
#include "conf.h"
#include "detect.h"
#include "manager.h"
#include "recorder.h"
#include "store.h"
#include "tick_source.h"

struct manager {
	const struct manager_options *options;
	struct conf conf;
	struct utsname kernel;
	uint64_t started_us;
	int exit_error;
	bool owns_socket; /* bound here, not passed */

	struct helper *helper, *lines_helper;
	struct arena arena;
	struct store *store;
	struct moments *moments;
	struct thread_waits *thread_waits;
	struct detect *detect;
	struct alert *alert;
	struct incidents *incidents;
	struct collect *collect;
	struct symbols *symbols;
	struct lines *lines;
	struct unwind *unwind;
	struct pressure *pressure;
	struct pipeline *pipeline;
	struct live_source live;
	struct recorder *recorder; /* NULL: nothing is recorded */
	struct watches *watches;
	struct leaks *leaks;
	struct api *api;

	struct ev_loop *loop;
	ev_timer tick, record_end;
	ev_io gate, mappings, parser, lines_parser, pressures;
	ev_signal terminate, interrupt, hangup;
};

struct collect_config config_for_collect(const struct conf *c);
struct recording_config config_for_recording(const struct manager *m);
struct store_config config_for_store(const struct conf *c);
struct api_config config_for_api(const struct conf *c);
struct detect_config config_for_detect(const struct conf *c);
struct alert_config config_for_alert(const struct conf *c);

/* Borrows m. */
struct api_actions manager_answers(struct manager *m);

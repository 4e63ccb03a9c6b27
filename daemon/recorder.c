/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "recorder.h"

struct recorder {
	struct recording_writer *writer;
	struct tick_source source;
	const struct collect_sink *sink; /* the pipeline's, while a tick lasts */
	void *sink_userdata;
	struct recording_process process; /* that is written */
	struct recording_stack stack;
};

int recorder_new(struct recorder **ret, int fd, const struct recording_config *config)
{
	_cleanup_(recorder_freep) struct recorder *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return -ENOMEM;
	e = recording_writer_new(&r->writer, fd, config);
	if (e < 0)
		return e;
	*ret = TAKE_PTR(r);
	return 0;
}

struct recorder *recorder_free(struct recorder *r)
{
	if (!r)
		return NULL;
	recording_writer_free(r->writer);
	free(r);
	return NULL;
}

/* ---- the pipeline's sink: each event is written behind the answers that it asked for ---- */

static void on_mapping(void *userdata, const struct collect_mapping_event *event)
{
	struct recorder *r = userdata;

	r->sink->mapping(r->sink_userdata, event); /* names are recorded, not where they come from */
}

static void on_begin(void *userdata, const struct collect_tick_info *info)
{
	struct recorder *r = userdata;

	r->sink->begin(r->sink_userdata, info);
	recording_write(r->writer, &(struct recording_item){ .kind = RECORDING_BEGIN, .begin = *info });
}

static void on_gate(void *userdata, const struct collect_gate_change *change)
{
	struct recorder *r = userdata;

	r->sink->gate(r->sink_userdata, change);
	recording_write(r->writer, &(struct recording_item){ .kind = RECORDING_GATE, .gate = *change });
}

static void on_sample(void *userdata, const struct collect_sample *sample)
{
	struct recorder *r = userdata;

	r->sink->sample(r->sink_userdata, sample);
	recording_write(r->writer, &(struct recording_item){ .kind = RECORDING_SAMPLE, .sample = *sample });
}

static void on_soon(void *userdata, uint64_t raw_id)
{
	struct recorder *r = userdata;

	if (r->sink->soon)
		r->sink->soon(r->sink_userdata, raw_id);
}

static void on_wait(void *userdata, const struct collect_wait *wait)
{
	struct recorder *r = userdata;

	r->sink->wait(r->sink_userdata, wait);
	recording_write(r->writer, &(struct recording_item){ .kind = RECORDING_WAIT, .wait = *wait });
}

static void on_total(void *userdata, const struct collect_total *total)
{
	struct recorder *r = userdata;

	r->sink->total(r->sink_userdata, total);
	recording_write(r->writer, &(struct recording_item){ .kind = RECORDING_TOTAL, .total = *total });
}

static void on_memory(void *userdata, const struct collect_memory *memory)
{
	struct recorder *r = userdata;

	if (r->sink->memory)
		r->sink->memory(r->sink_userdata, memory);
	recording_write(r->writer, &(struct recording_item){ .kind = RECORDING_MEMORY, .memory = *memory });
}

static void on_moment(void *userdata, const struct collect_moment *moment)
{
	struct recorder *r = userdata;

	if (r->sink->moment)
		r->sink->moment(r->sink_userdata, moment);
	if (moment->metric == METRIC_ON_CPU) /* threads' waits are no part of a recording */
		recording_write(r->writer, &(struct recording_item){ .kind = RECORDING_MOMENT, .moment = *moment });
}

static void on_loss(void *userdata, const char *cause, uint64_t n)
{
	struct recorder *r = userdata;

	r->sink->loss(r->sink_userdata, cause, n);
	recording_write(r->writer, &(struct recording_item){ .kind = RECORDING_LOSS, .loss = { cause, n } });
}

static const struct collect_sink tap = {
	.mapping = on_mapping,
	.begin = on_begin,
	.gate = on_gate,
	.sample = on_sample,
	.soon = on_soon,
	.wait = on_wait,
	.total = on_total,
	.memory = on_memory,
	.moment = on_moment,
	.loss = on_loss,
};

/* ---- the source ---- */

static int tick(void *userdata, const struct collect_sink *sink, void *sink_userdata)
{
	struct recorder *r = userdata;

	r->sink = sink;
	r->sink_userdata = sink_userdata;
	return r->source.tick(r->source.userdata, &tap, r);
}

static int process(void *userdata, const struct collect_process *asked, const struct symbols_process **ret, uint64_t *ret_start_us)
{
	struct recorder *r = userdata;

	r->process.asked = *asked;
	r->process.result = r->source.process(r->source.userdata, asked, ret, ret_start_us);
	if (r->process.result >= 0) {
		r->process.known = **ret;
		r->process.start_us = *ret_start_us;
	}
	recording_write(r->writer, &(struct recording_item){ .kind = RECORDING_PROCESS, .process = &r->process });
	return r->process.result;
}

static int stack(void *userdata, uint64_t raw_id, struct symbols_frame ret_frames[static SYMBOLS_FRAMES_MAX], size_t *ret_n,
		 uint64_t *ret_id, bool *ret_truncated)
{
	struct recorder *r = userdata;
	int e = r->source.stack(r->source.userdata, raw_id, ret_frames, ret_n, ret_id, ret_truncated);

	r->stack.raw_id = raw_id;
	r->stack.result = e;
	if (e >= 0) {
		r->stack.id = *ret_id;
		r->stack.truncated = *ret_truncated;
		r->stack.n = *ret_n;
		memcpy(r->stack.frames, ret_frames, *ret_n * sizeof(*ret_frames));
	}
	recording_write(r->writer, &(struct recording_item){ .kind = RECORDING_STACK, .stack = &r->stack });
	return e;
}

struct tick_source recorder_source(struct recorder *r, const struct tick_source *source)
{
	r->source = *source;
	return (struct tick_source){ .tick = tick, .process = process, .stack = stack, .userdata = r };
}

/* ---- around a tick ---- */

void recorder_begin_tick(struct recorder *r, uint64_t now_us, const pid_t *own, size_t n_own)
{
	struct recording_item item = { .kind = RECORDING_TICK, .tick = { .now_us = now_us, .n_own = MIN(n_own, (size_t)RECORDING_OWN_MAX) } };

	memcpy(item.tick.own, own, item.tick.n_own * sizeof(*own));
	recording_write(r->writer, &item);
}

int recorder_end_tick(struct recorder *r, const struct recording_digest *digest)
{
	return recording_writer_end_tick(r->writer, digest);
}

int recorder_finish(struct recorder *r, uint64_t *ret_bytes)
{
	int e = recording_writer_finish(r->writer);

	*ret_bytes = recording_writer_bytes(r->writer);
	return e;
}

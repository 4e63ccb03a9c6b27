/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "internal.h"

static void listing_free(struct session *s, void *state)
{
	struct listing *l = state;

	if (l->ops->free_state)
		l->ops->free_state(l);
	s->api->rows -= l->table.n;
	table_done(&l->table);
	free(l);
}

static enum produce_result listing_produce(struct session *s)
{
	struct listing *l = s->call.state;
	struct json_writer *w = session_reply_begin(s);
	size_t n;
	bool more;

	if (l->ops->put_head)
		l->ops->put_head(s, l, w);
	json_key(w, l->ops->array);
	json_open_array(w);
	for (n = 0; l->next < l->end && json_writer_error(w) == 0; n++) {
		size_t bound = l->ops->load_row(s, l, l->next);

		if (page_full(s, json_writer_size(w), n, bound))
			break;
		l->ops->write_row(s, l, w, l->next++);
	}
	json_close_array(w);
	more = l->next < l->end;
	return session_reply_end(s, more) && more ? PRODUCE_MORE : PRODUCE_DONE;
}

struct listing *listing_new(struct session *s, const struct listing_ops *ops)
{
	struct listing *l = calloc(1, sizeof(*l));

	if (!l) {
		session_failed(s, -ENOMEM);
		return NULL;
	}
	l->ops = ops;
	session_produce(s, listing_produce, l, listing_free);
	return l;
}

void listing_start(struct session *s, struct listing *l, const struct query *q, int r, size_t n,
                   uint32_t limit)
{
	s->api->rows += l->table.n;
	l->end = MIN(n, (size_t)limit);
	if (r >= 0)
		r = window_sum(s->api, q, l->metric, &l->window);
	if (r < 0)
		session_failed(s, r);
	/* Answered already: nothing is left to produce. */
	if (r < 0 || (n == 0 && query_refuse_unknown(s, q)))
		s->call.produce = NULL;
}

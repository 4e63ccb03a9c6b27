/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One journal record: fields of any bytes, and the way to the journal. */
#pragma once

#include <sys/uio.h>

#include "alert.h"

#define RECORD_FIELDS_MAX 40

struct record {
	size_t n;
	bool failed;           /* out of memory or fields: the record would lack something */
	struct iovec fields[RECORD_FIELDS_MAX];
};

void record_clear(struct record *r);
/* Appends NAME=value; a value that is NULL or empty is left out. */
void record_add(struct record *r, const char *name, const char *value);
void record_addf(struct record *r, const char *name, const char *format, ...) _printf_(3, 4);

/* Sends it, waiting for nobody. Gives -ENOENT where no journal listens, -EAGAIN when it doesn't keep up. */
int record_send(const struct record *r);

/* "on-cpu of spin_hot in victim.service (victim, pid 1234) rose from 12.0ms/s to 980ms/s, one in 3e9" */
char *record_anomaly_message(const struct alert_anomaly *a);
/* "incident 12, lock contention in pool_get: " and the above; what became of it. */
char *record_incident_message(const struct alert_incident *i);

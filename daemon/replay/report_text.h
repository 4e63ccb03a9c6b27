/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Anomalies and incidents as text, the oldest first. */
#pragma once

#include "cluster.h"
#include "store.h"

/* -ENOMEM, -EIO and others of writing. */
int report_text_write(FILE *file, struct store *store, struct clusters *clusters);

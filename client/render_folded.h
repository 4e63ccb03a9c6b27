/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Folded stacks: "comm;outermost;...;innermost value", a line each, as flamegraph.pl takes them. */
#pragma once

#include "call.h"
#include "flame.h"

struct folded;
int folded_new(struct folded **ret);
struct folded *folded_free(struct folded *f);
DEFINE_CLEANUP(struct folded *, folded_free)

/* What a StackRow is of: the process, or "thread/tid". The caller frees; NULL when there is no memory. */
char *folded_row_name(const struct json *row);
/* Takes the frames of a reply, to which its and later replies' stacks point by index. -E2BIG: a million. */
int folded_add_frames(struct folded *f, const struct json *frames);
/* -EBADMSG: an index points to no frame. */
int folded_print(struct folded *f, const struct json *row, FILE *file);

/* A whole tree; of a FLAME_DIFF "stack before after", as difffolded.pl writes it. -EIO: file can't be written. */
int write_folded(const struct flame *f, FILE *file);

/* A name as one frame of a folded line: no ";", no blanks, nothing that a terminal would act upon. The caller
 * frees. */
char *folded_name(const char *name, const char *suffix);

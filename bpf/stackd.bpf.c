/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All programs as one object: they share maps, and a part of the state of tasks. */
#include "kernel.h"
#include "records.h"
#include "stacks.bpf.h"

#include "notice.bpf.h"
#include "oncpu.bpf.c"
#include "draw.bpf.h"
#include "rss.bpf.c"
#include "memory.bpf.c"
#include "heap.bpf.c"
#include "kmem.bpf.c"
#include "known.bpf.h"
#include "offcpu.bpf.c"
#include "totals.bpf.c"
#include "gate.bpf.c"

char LICENSE[] SEC("license") = "GPL";

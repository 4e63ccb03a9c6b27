/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Code that was put into the kernel while it ran, BPF programs above all, as of the place in the recording. */
#pragma once

#include "base.h"

#define BPF_NAMES_MAX 16384

struct bpf_names;

int bpf_names_new(struct bpf_names **ret);
struct bpf_names *bpf_names_free(struct bpf_names *b);
DEFINE_CLEANUP(struct bpf_names *, bpf_names_free)

/* Beyond BPF_NAMES_MAX they are counted only. -ENOMEM. */
int bpf_names_add(struct bpf_names *b, uint64_t start, uint64_t size, const char *name);
void bpf_names_remove(struct bpf_names *b, uint64_t start);
/* NULL: nothing was put there. Good until the next change. */
const char *bpf_names_find(const struct bpf_names *b, uint64_t address);
uint64_t bpf_names_dropped(const struct bpf_names *b);

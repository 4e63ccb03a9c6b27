/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stacks as sparse vectors: what two of them have in common is the cosine between them. */
#pragma once

#include "cluster.h"

#define VECTOR_MAX 48
#define RARITY_ROWS 2
#define RARITY_COLUMNS 8192

/* Ordered by feature; of unit length, or empty. */
struct vector {
	uint32_t n;
	uint32_t feature[VECTOR_MAX];
	float weight[VECTOR_MAX];
};

/* How many stacks each function is in: a count-min sketch (Cormode and Muthukrishnan 2005). */
struct rarity {
	uint64_t n_stacks;
	uint32_t counts[RARITY_ROWS][RARITY_COLUMNS];
};

void rarity_learn(struct rarity *r, const struct cluster_frame *frames, size_t n);
/* 0 (in every stack) to 1 (in none yet). */
float rarity_of(const struct rarity *r, const char *function);

/* A frame's place among others: how telling it is, 0 to 1. place 0 is the innermost of n. */
float vector_frame_weight(const struct rarity *r, const struct cluster_frame *frame, size_t place, size_t n);
/* What a frame is called in names that are to outlive a build: the function, or the object alone, "[libfoo.so]". */
char *vector_frame_name(char buf[static CLUSTER_FRAME_NAME_MAX], const struct cluster_frame *frame);
uint32_t vector_frame_feature(const struct cluster_frame *frame);

void vector_of_stack(struct vector *ret, const struct rarity *r, const struct cluster_frame *frames, size_t n);
/* -> a * part_a + b * part_b, of unit length; the lightest features beyond VECTOR_MAX are left out. ret may be a. */
void vector_mix(struct vector *ret, const struct vector *a, float part_a, const struct vector *b, float part_b);
/* 0 (nothing in common, or one is empty) to 1. */
float vector_cosine(const struct vector *a, const struct vector *b);

/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The upper half of a float, for what is not negative and needs no more. */
#pragma once

#include "base.h"

/* Rounded up. */
static inline uint16_t pack(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return (uint16_t)MIN((bits + 0xffff) >> 16, 0x7f7fu);
}

static inline float unpack(uint16_t packed)
{
	uint32_t bits = (uint32_t)packed << 16;
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

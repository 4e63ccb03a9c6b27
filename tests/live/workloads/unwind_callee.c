/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What wl_unwind calls in shared objects: one that it is linked with, one that it opens. */

void call_back(void (*function)(void));
void plugin_call_back(void (*function)(void));
void do_nothing(void);

#define CALLED __attribute__((noipa, visibility("default")))

CALLED void call_back(void (*function)(void))
{
	function();
	__asm__ volatile("");
}

CALLED void plugin_call_back(void (*function)(void))
{
	function();
	__asm__ volatile("");
}

CALLED void do_nothing(void)
{
}

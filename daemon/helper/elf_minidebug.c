/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <gelf.h>
#include <lzma.h>

#include "elf_minidebug.h"

/* `xz -9` asks for 65 MiB; nobody needs more for what may be unpacked here. */
#define DECODER_MEMORY_MAX (80ULL << 20)
#define FIRST_SIZE (256U << 10)

static int more_room(uint8_t **buffer, size_t *size)
{
	size_t wanted = *size ? 2 * *size : FIRST_SIZE;
	uint8_t *p;

	if (wanted > MINIDEBUG_MAX)
		return -EFBIG;
	p = realloc(*buffer, wanted);
	if (!p)
		return -ENOMEM;
	*buffer = p;
	*size = wanted;
	return 0;
}

static int unpack(lzma_stream *xz, uint8_t **buffer, size_t *ret_size)
{
	size_t size = 0;

	for (;;) {
		lzma_ret code;

		if (xz->avail_out == 0) {
			int r = more_room(buffer, &size);

			if (r < 0)
				return r;
			xz->next_out = *buffer + xz->total_out;
			xz->avail_out = size - xz->total_out;
		}
		code = lzma_code(xz, LZMA_FINISH);
		if (code == LZMA_STREAM_END) {
			*ret_size = xz->total_out;
			return 0;
		}
		if (code != LZMA_OK)
			return code == LZMA_MEM_ERROR ? -ENOMEM
				: code == LZMA_MEMLIMIT_ERROR ? -EFBIG
							      : -EBADMSG;
	}
}

int elf_minidebug_read(Elf_Scn *section, uint64_t file_size, void **ret, size_t *ret_size)
{
	lzma_stream xz = LZMA_STREAM_INIT;
	_cleanup_free_ uint8_t *buffer = NULL;
	Elf_Data *data;
	GElf_Shdr h;
	int r;

	if (!gelf_getshdr(section, &h) || h.sh_offset > file_size || h.sh_size > file_size - h.sh_offset)
		return -EBADMSG;
	if (h.sh_size > MINIDEBUG_PACKED_MAX)
		return -EFBIG;
	errno = 0;
	data = elf_rawdata(section, NULL);
	if (!data || !data->d_buf)
		return errno == ENOMEM ? -ENOMEM : -EBADMSG;

	if (lzma_stream_decoder(&xz, DECODER_MEMORY_MAX, 0) != LZMA_OK)
		return -ENOMEM;
	xz.next_in = data->d_buf;
	xz.avail_in = data->d_size;
	r = unpack(&xz, &buffer, ret_size);
	lzma_end(&xz);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(buffer);
	return 0;
}

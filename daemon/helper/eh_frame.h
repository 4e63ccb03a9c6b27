/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Call frame information in ELF files of x86-64: where .eh_frame is, and its entries. Reads by pread only, and takes
 * nothing that the file says on trust. Its form: Linux Standard Base 5.0, core, "Exception Frames"; DWARF 5, 6.4.1.
 *
 *   .eh_frame   CIE  what functions have in common: encoding, factors, first instructions
 *               FDE  one function: its CIE, its addresses, its instructions
 *               FDE  ... */
#pragma once

#include "cursor.h"

/* Larger ones are refused; the largest that we have met (a browser's) has 30 MB. */
#define EH_FRAME_MAX (96ULL << 20)
#define EH_FRAME_FUNCTIONS_MAX (4U << 20)
/* A CIE's instructions are run again for each of its functions, so it must be short; real ones have 20 to 40 bytes. The worst
 * file within these limits took 5 s. */
#define EH_FRAME_CIE_MAX 256
#define EH_FRAME_SEGMENTS_MAX 16
/* User addresses have 47 bits, and an object's own begin at 0 or near. */
#define EH_FRAME_ADDRESS_MAX (1ULL << 47)

/* Executable PT_LOAD. */
struct eh_segment {
	uint64_t offset, size, address;
};

struct cie {
	uint64_t code_factor;
	int64_t data_factor;
	uint64_t return_register;
	uint8_t encoding; /* of addresses: DW_EH_PE_... */
	bool has_data;    /* its FDEs have augmentation data */
	bool is_signal_frame;
	struct cursor instructions;
};

struct fde {
	uint64_t start, end; /* addresses of its function */
	uint32_t cie;        /* offsets into the section: */
	uint32_t instructions, instructions_end;
};

struct eh_frame {
	uint8_t *bytes;
	uint64_t address, size;
	struct eh_segment segments[EH_FRAME_SEGMENTS_MAX];
	uint32_t n_segments;
	struct fde *functions; /* by start, then the longest first; they may overlap */
	size_t n_functions, max_functions;
	uint32_t n_skipped; /* FDEs that could not be read */
	uint64_t cie_at;    /* of the one that was read last; UINT64_MAX: none */
	struct cie cie;
};

/* -ENOEXEC: not an ELF file of x86-64; -ENODATA: it has no .eh_frame, or an empty one; -EBADMSG: damaged; -EFBIG:
 * above the limits; -ENOMEM. To be freed in any case. */
int eh_frame_load(struct eh_frame *f, int fd);
void eh_frame_free(struct eh_frame *f);

/* The CIE of a function; valid until the next call. NULL: it can't be read. */
const struct cie *eh_frame_cie(struct eh_frame *f, uint32_t offset);
/* The address of a place in the section. */
uint64_t eh_frame_address(const struct eh_frame *f, const struct cursor *c);
/* An address that is encoded as DW_EH_PE_... says and lies at c. False: an encoding that no such file uses. */
bool eh_frame_read_address(const struct eh_frame *f, struct cursor *c, uint8_t encoding, uint64_t *ret);

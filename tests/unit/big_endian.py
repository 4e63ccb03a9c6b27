# SPDX-License-Identifier: GPL-2.0-or-later
"""A file of perf record as a machine with the other byte order would have written it. Written from linux/perf_event.h, perf.data-file-format.txt
and the form of trace-cmd's tracing data, and checked against perf itself (test_foreign_endian.py), not against stackd's reader."""
import re
import struct

IDENTIFIER, IP, TID, TIME, ADDR, ID, STREAM_ID, CPU, PERIOD = (1 << n for n in (16, 0, 1, 2, 3, 6, 9, 7, 8))
READ, CALLCHAIN, RAW, BRANCH_STACK, REGS_USER, STACK_USER = (1 << n for n in (4, 5, 10, 11, 12, 13))
LATER = ((1 << 14) | (1 << 24), 1 << 15, 1 << 17)  # weight, data_src, transaction: a word each
MMAP, LOST, COMM, EXIT, FORK, SAMPLE, MMAP2, LOST_SAMPLES, SWITCH, SWITCH_CPU_WIDE, NAMESPACES, KSYMBOL, BPF_EVENT, CGROUP = (
    1, 2, 3, 4, 7, 9, 10, 13, 14, 15, 16, 17, 18, 19)
OWN, HEADER_ATTR, TRACING_DATA_RECORD, BUILD_ID_RECORD, FINISHED_ROUND, THREAD_MAP, CPU_MAP, EVENT_UPDATE, FEATURE, COMPRESSED, FINISHED_INIT = (
    64, 64, 66, 67, 68, 73, 74, 78, 80, 81, 82)
TRACING_DATA, BUILD_ID, HOSTNAME, OS_RELEASE, VERSION, ARCH, NR_CPUS, CPU_DESC, CPU_ID, TOTAL_MEM, CMDLINE, EVENT_DESC = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
SAMPLE_TIME, CLOCK_ID, PACKING, CLOCK_DATA = 21, 23, 27, 29
MMAP_BUILD_ID = 1 << 14
ATTR_SIZE_MIN = 64


class Swapper:
    """Swaps numbers of a file in place, from a position on, and gives what they were."""

    def __init__(self, data, at=0, end=None):
        self.data, self.at, self.end = data, at, len(data) if end is None else end

    def number(self, size):
        value = int.from_bytes(self.data[self.at : self.at + size], "little")
        self.data[self.at : self.at + size] = self.data[self.at : self.at + size][::-1]
        self.at += size
        assert self.at <= self.end, (self.at, self.end)
        return value

    def numbers(self, size, n):
        return [self.number(size) for _ in range(n)]

    def u16(self):
        return self.number(2)

    def u32(self):
        return self.number(4)

    def u64(self):
        return self.number(8)

    def rest(self, size):
        while self.at + size <= self.end:
            self.number(size)

    def string(self):
        n = self.u32()
        self.at += n
        return bytes(self.data[self.at - n : self.at]).split(b"\0")[0].decode()

    def word(self):
        """A string that ends with a zero."""
        begin, self.at = self.at, self.data.index(0, self.at) + 1
        return bytes(self.data[begin : self.at - 1]).decode()

    def skip(self, n):
        begin, self.at = self.at, self.at + n
        return bytes(self.data[begin : self.at])


class Event:
    def __init__(self, s, size):
        """struct perf_event_attr."""
        end = s.at + size
        self.type, _ = s.u32(), s.u32()
        self.config, _, self.sample_type, self.read_format = s.numbers(8, 4)
        flags = int.from_bytes(s.data[s.at : s.at + 8], "little")
        self.sample_id_all = flags >> 18 & 1
        for i in range(s.at, s.at + 8):
            s.data[i] = int(f"{s.data[i]:08b}"[::-1], 2)
        s.at += 8
        s.numbers(4, 2)  # wakeup, bp_type
        later = [(8, "bp_addr"), (8, "bp_len"), (8, "branch_sample_type"), (8, "sample_regs_user"), (4, "sample_stack_user"), (4, "clockid"),
                 (8, "sample_regs_intr"), (4, "aux_watermark"), (2, "sample_max_stack"), (2, ""), (4, "aux_sample_size"), (4, ""), (8, "sig_data")]
        for width, name in later:
            if s.at < end:
                setattr(self, name, s.number(width))
        s.at = end


def read_formats(text):
    """Of each tracepoint by its number: [(offset, size of an element, how many)]."""
    formats = {}
    for number, fields in re.findall(r"name: \S+\nID: (\d+)\nformat:\n(.*?)\nprint fmt:", text, re.S):
        formats[int(number)] = []
        for kind, offset, size in re.findall(r"field:([^;]*);\toffset:(\d+);\tsize:(\d+);", fields):
            count = int(m[1]) if (m := re.search(r"\[(\d+)\]$", kind)) else 1
            if int(size) > 0:
                formats[int(number)].append((int(offset), int(size) // count, count))
    return formats


def swap_tracing_data(data, begin, end):
    """Gives the formats in it."""
    s = Swapper(data, begin, end)
    assert s.skip(10) == b"\x17\x08\x44tracing"
    version = s.word()
    assert data[s.at] == 0
    data[s.at] = 1
    s.at += 2  # and the size of a long
    s.u32()
    text = b""
    for name in ("header_page", "header_event"):
        assert s.word() == name
        s.skip(s.u64())
    for _ in range(s.u32()):
        text += s.skip(s.u64())
    for _ in range(s.u32()):
        s.word()
        for _ in range(s.u32()):
            text += s.skip(s.u64())
    for _ in range(2):  # kallsyms, printk formats
        s.skip(s.u32())
    if float(version) >= 0.6:
        s.skip(s.u64())
    return read_formats(text.decode(errors="replace"))


class Records:
    def __init__(self):
        self.events, self.by_id, self.formats = [], {}, {}

    def event_of(self, data, begin, end, is_sample):
        first = self.events[0]
        if len(self.events) == 1:
            return first
        assert first.sample_type & IDENTIFIER, "several events whose records don't say whose they are"
        at = begin + 8 if is_sample else end - 8
        return self.by_id.get(int.from_bytes(data[at : at + 8], "little"), first)

    def trailer(self, data, begin, end):
        """Gives where it begins."""
        event = self.event_of(data, begin, end, False)
        if not event.sample_id_all:
            return end
        words = [bit for bit in (TID, TIME, ID, STREAM_ID, CPU, IDENTIFIER) if event.sample_type & bit]
        s = Swapper(data, end - 8 * len(words), end)
        for bit in words:
            s.numbers(4, 2) if bit in (TID, CPU) else s.u64()
        return end - 8 * len(words)

    def sample(self, data, begin, end):
        event = self.event_of(data, begin, end, True)
        s, has = Swapper(data, begin + 8, end), lambda bit: event.sample_type & bit
        for bit in (IDENTIFIER, IP, TID, TIME, ADDR, ID, STREAM_ID, CPU, PERIOD):
            if has(bit):
                s.numbers(4, 2) if bit in (TID, CPU) else s.u64()
        if has(READ):
            n = s.u64() if event.read_format & 8 else 1
            times, words = (event.read_format & 1) + (event.read_format >> 1 & 1), 1 + (event.read_format >> 2 & 1) + (event.read_format >> 4 & 1)
            s.numbers(8, times + n * words)
        if has(CALLCHAIN):
            s.numbers(8, s.u64())
        if has(RAW):
            n = s.u32()
            for offset, size, count in self.formats.get(event.config, []) if event.type == 2 else []:
                if offset + size * count <= n:
                    Swapper(data, s.at + offset, end).numbers(size, count)
            s.skip(n)
        assert not has(BRANCH_STACK)
        if has(REGS_USER) and s.u64():
            s.numbers(8, bin(event.sample_regs_user).count("1"))
        if has(STACK_USER):
            n = s.u64()
            s.skip(n)
            if n:
                s.u64()
        s.numbers(8, sum(1 for bit in LATER if has(bit)))
        assert not event.sample_type >> 18 & ~(1 << 6), hex(event.sample_type)

    def one(self, data, begin):
        s = Swapper(data, begin)
        kind, misc, size = s.u32(), s.u16(), s.u16()
        end = s.end = begin + size
        if kind == SAMPLE:
            self.sample(data, begin, end)
        elif kind < OWN:
            s.end = self.trailer(data, begin, end)
        if kind in (MMAP, MMAP2):
            s.numbers(4, 2), s.numbers(8, 3)
            if kind == MMAP2 and misc & MMAP_BUILD_ID:
                s.skip(24)
            elif kind == MMAP2:
                s.numbers(4, 2), s.numbers(8, 2)
            if kind == MMAP2:
                s.numbers(4, 2)
        elif kind == COMM:
            s.numbers(4, 2)
        elif kind in (EXIT, FORK):
            s.numbers(4, 4), s.u64()
        elif kind == SWITCH_CPU_WIDE:
            s.numbers(4, 2)
        elif kind == NAMESPACES:
            s.numbers(4, 2), s.rest(8)
        elif kind == KSYMBOL:
            s.u64(), s.u32(), s.numbers(2, 2)
        elif kind == BPF_EVENT:
            s.numbers(2, 2), s.u32()
        elif kind == CGROUP:
            s.u64()
        elif kind == HEADER_ATTR:
            event = Event(s, int.from_bytes(data[begin + 12 : begin + 16], "little"))
            self.events.append(event)
            while s.at < end:
                self.by_id[s.u64()] = event
        elif kind == TRACING_DATA_RECORD:
            n = s.u32()
            self.formats.update(swap_tracing_data(data, end, end + n))
            return end + (n + 7) // 8 * 8
        elif kind == BUILD_ID_RECORD:
            s.u32()
        elif kind == EVENT_UPDATE:
            s.numbers(8, 2)
        elif kind == FEATURE:
            swap_feature(data, s.u64(), s.at, end)
        elif kind == THREAD_MAP:
            for _ in range(s.u64()):
                s.u64(), s.skip(16)
        elif kind == CPU_MAP:
            s.rest(2)
        elif kind not in (SAMPLE, SWITCH, FINISHED_ROUND, COMPRESSED, FINISHED_INIT):
            s.rest(8)
        return end

    def all(self, data, begin, end):
        while begin < end:
            begin = self.one(data, begin)


def swap_feature(data, feature, begin, end):
    """False: of a form that isn't known here."""
    s = Swapper(data, begin, end)
    if feature in (HOSTNAME, OS_RELEASE, VERSION, ARCH, CPU_DESC, CPU_ID):
        s.string()
    elif feature == NR_CPUS:
        s.numbers(4, 2)
    elif feature in (TOTAL_MEM, CLOCK_ID):
        s.u64()
    elif feature == SAMPLE_TIME:
        s.numbers(8, 2)
    elif feature == PACKING:
        s.numbers(4, 5)
    elif feature == CLOCK_DATA:
        s.numbers(4, 2), s.numbers(8, 2)
    elif feature == CMDLINE:
        for _ in range(s.u32()):
            s.string()
    elif feature == EVENT_DESC:
        n, size = s.u32(), s.u32()
        for _ in range(n):
            Event(s, size) if size >= ATTR_SIZE_MIN else s.skip(size)
            ids = s.u32()
            s.string()
            s.numbers(8, ids)
    elif feature == BUILD_ID:
        while s.at < end:
            begin = s.at
            s.u32(), s.u16()
            size = s.u16()
            s.u32()
            s.at = begin + size
    else:
        return False
    return True


def repack(records, data, begin, end, unpack, pack):
    """Compressed records are one stream in pieces: what is in it, swapped, in pieces again. What is not compressed stays before it."""
    plain, packed, at = bytearray(), bytearray(), begin
    while at < end:
        kind, _, size = struct.unpack_from("<IHH", data, at)
        if kind == COMPRESSED:
            packed += data[at + 8 : at + size]
        else:
            plain += data[at : at + size]
        at += size
    if not packed:
        records.all(data, begin, end)
        return data[begin:end]
    records.all(plain, 0, len(plain))
    inner = bytearray(unpack(bytes(packed)))
    records.all(inner, 0, len(inner))
    packed = pack(bytes(inner))
    pieces = [packed[i : i + 60000] for i in range(0, len(packed), 60000)]
    return plain + b"".join(struct.pack(">IHH", COMPRESSED, 0, 8 + len(p)) + p for p in pieces)


def convert_stream(data):
    """Of perf record -o -."""
    data, records = bytearray(data), Records()
    Swapper(data).numbers(8, 2)
    records.all(data, 16, len(data))
    return bytes(data)


def convert(data, unpack=None, pack=None):
    """Of a file; features whose form isn't known here are left out. unpack and pack are of zstd, for compressed records."""
    data, records = bytearray(data), Records()
    s = Swapper(data)
    _, _, entry, attrs, attrs_size, begin, size = s.numbers(8, 7)
    s.numbers(8, 2)
    bits = int.from_bytes(data[72:104], "little")
    for at in range(attrs, attrs + attrs_size, entry):
        s = Swapper(data, at)
        event = Event(s, entry - 16)
        ids, ids_size = s.numbers(8, 2)
        records.events.append(event)
        for event_id in Swapper(data, ids).numbers(8, ids_size // 8):
            records.by_id[event_id] = event
    sections = []
    for n, feature in enumerate(f for f in range(256) if bits >> f & 1):
        at, length = struct.unpack_from("<QQ", data, begin + size + 16 * n)
        body = bytearray(data[at : at + length])
        if feature == TRACING_DATA:
            records.formats.update(swap_tracing_data(body, 0, length))
        elif not swap_feature(body, feature, 0, length):
            bits &= ~(1 << feature)
            continue
        sections.append(body)
    data_out = repack(records, data, begin, begin + size, unpack, pack)
    out = data[:begin] + data_out
    out[48:56] = struct.pack(">Q", len(data_out))
    out[72:104] = struct.pack(">4Q", *(bits >> 64 * i & (1 << 64) - 1 for i in range(4)))
    at = len(out) + 16 * len(sections)
    for body in sections:
        out += struct.pack(">QQ", at, len(body))
        at += len(body)
    return bytes(out + b"".join(sections))

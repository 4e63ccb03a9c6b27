# SPDX-License-Identifier: GPL-2.0-or-later
"""The parser's names against those of nm, c++filt, objdump and addr2line: argument 1 is name_addresses."""
import bisect
import glob
import lzma
import pathlib
import random
import re
import subprocess
import sys
import tempfile

SAMPLE = 1000  # addresses a file
SYSTEM_FILES = ["/lib/*/libc.so.6", "/usr/lib/*/libstdc++.so.6", "/usr/bin/python3", "/usr/bin/perl", "/bin/bash",
                "/usr/bin/sqlite3", "/usr/lib/*/libperl.so.5*", "/usr/lib/*/libcrypto.so.3"]
SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
int _ZN5outer5innerIiEEvT_(int x) __attribute__((noinline));
int _ZN5outer5innerIiEEvT_(int x) { return x * 3 + rand(); }
static int __attribute__((noinline)) hidden_helper(int x) { return _ZN5outer5innerIiEEvT_(x) + atoi("7"); }
int __shared(int x) __attribute__((noinline));
int __shared(int x) { return hidden_helper(x) - 1; }
extern int shared_too(int x) __attribute__((alias("__shared")));
extern int weak_one(int x) __attribute__((weak, alias("__shared")));
__asm__(".text\n.globl unsized\nunsized: nop\nnop\nnop\nnop\n.globl sized\n.type sized,@function\nsized: ret\n.size sized,1");
int main(void) { printf("%d\n", __shared(1)); return 0; }
"""
scratch = tempfile.TemporaryDirectory()
count = 0


def tell(name, problems):
    global count
    count += 1
    for problem in problems[:20]:
        print(f"# {problem}")
    print(f"{'not ok' if problems else 'ok'} {count} - {name}", flush=True)


def output(*command, text=None):
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout


def symbols(path):
    """{start: (sizes, names)} of what has a size, without versions; of .dynsym and, if there, .symtab."""
    found = {}
    for options in (["-D"], []):
        try:
            text = output("nm", "-S", "--defined-only", *options, path)
        except subprocess.CalledProcessError:
            continue
        for line in text.splitlines():
            fields = line.split()
            if len(fields) == 4 and fields[2] in "tTwWiuV" and int(fields[1], 16):
                sizes, names = found.setdefault(int(fields[0], 16), (set(), set()))
                sizes.add(int(fields[1], 16))
                names.add(fields[3].split("@")[0])
    return found


def demangled(names):
    names = sorted(names)
    return dict(zip(names, output("c++filt", "-p", "-i", text="\n".join(names) + "\n").splitlines()))


def stubs(path):
    """{start: name} of objdump's labels in .plt*."""
    found = {}
    text = subprocess.run(["objdump", "-d", "-j", ".plt", "-j", ".plt.got", "-j", ".plt.sec", path],
                          capture_output=True, text=True).stdout
    for start, name in re.findall(r"^([0-9a-f]+) <(.*)@plt>:", text, re.M):
        if not name.startswith("*ABS*"):
            found[int(start, 16)] = re.sub(r"@.*", "", name) + "@plt"
    return found


def executable_segments(path):
    found = []
    for line in output("readelf", "-lW", path).splitlines():
        fields = line.split()
        if fields and fields[0] == "LOAD" and "E" in "".join(fields[6:-1]):
            found.append((int(fields[1], 16), int(fields[2], 16), int(fields[4], 16)))
    return found


def ask(program, path, offsets):
    text = output(program, path, text="\n".join(f"{o:x}" for o in offsets) + "\n")
    for line in text.splitlines():
        offset, address, start, size, name = line.split(" ", 4)
        yield int(offset, 16), int(address, 16), int(start, 16), int(size, 16), name


def sample(path, plt):
    """Offsets all over the executable segments, and in every stub."""
    offsets = []
    segments = executable_segments(path)
    for offset, address, size in segments:
        offsets += [offset + random.randrange(size) for _ in range(SAMPLE)]
        offsets += [s - address + offset + 3 for s in plt if address <= s < address + size]
    return offsets


def shortened(name):
    encoded = name.encode()
    return name if len(encoded) < 512 else (encoded[:508] + b"...").decode(errors="replace")


def compare(program, path, truth_path=None):
    """Every name is one of a symbol that covers the address and starts where we say, or of a stub; and where we have none,
    nothing covers it."""
    truth = symbols(truth_path or path) | {}
    for start, (sizes, names) in symbols(path).items():
        truth.setdefault(start, (set(), set()))
        truth[start][0].update(sizes)
        truth[start][1].update(names)
    plt = stubs(path)
    pretty = demangled({n for _, names in truth.values() for n in names} | {n[:-4] for n in plt.values()})
    starts = sorted(truth)
    longest = max((max(sizes) for sizes, _ in truth.values()), default=0)
    problems, named, in_stubs, total = [], 0, set(), 0
    answers = list(ask(program, path, sample(path, plt)))

    for _, address, start, size, name in answers:
        total += 1
        if name.endswith("@plt"):
            expected = pretty.get(plt.get(start, "@plt")[:-4], "?") + "@plt"
            in_stubs.add(start)
            if name != expected or not start <= address < start + size:
                problems.append(f"{path}: {address:x} is {expected}, not {name}")
        elif name:
            named += 1
            sizes, names = truth.get(start, (set(), set()))
            if size not in sizes or not start <= address < start + size:
                problems.append(f"{path}: {address:x} is not in {name} of {size:x} bytes at {start:x}")
            elif name not in {shortened(pretty[n]) for n in names}:
                problems.append(f"{path}: {address:x} is one of {sorted(names)}, not {name}")
        else:
            i = bisect.bisect_right(starts, address) - 1
            while i >= 0 and address - starts[i] < longest:
                if address - starts[i] < max(truth[starts[i]][0]):
                    problems.append(f"{path}: {address:x} has no name, it is in {sorted(truth[starts[i]][1])}")
                    break
                i -= 1
    missing = set(plt) - in_stubs
    if missing:
        problems.append(f"{path}: {len(missing)} of {len(plt)} stubs have no name: {[plt[s] for s in missing][:5]}")
    if not named and len(truth) > 50:
        problems.append(f"{path}: no name at all")
    print(f"# {path}: {total} addresses, {named} in functions, {len(in_stubs)} of {len(plt)} stubs")
    return problems + addr2line_problems(truth_path or path, answers, truth)


def addr2line_problems(path, answers, truth):
    """addr2line gives the nearest name before an address, so it is asked where we have one. Where the machine has debug files
    it gives names that no symbol has."""
    named = [a for a in answers if a[4] and not a[4].endswith("@plt")]
    lines = output("addr2line", "-f", "-e", path, text="".join(f"{a[1]:x}\n" for a in named)).splitlines()[::2]
    known = {n for _, names in truth.values() for n in names}
    problems, agreed, asked = [], 0, 0
    for (_, address, start, _, name), other in zip(named, lines):
        other = other.split("@")[0]
        asked += other in known
        if other in truth[start][1]:
            agreed += 1
        elif other != "??" and any(other in names and address - s < max(sizes)
                                   for s, (sizes, names) in truth.items() if start < s <= address):
            problems.append(f"{path}: {address:x} is {other} for addr2line, {name} for us")
    print(f"# {path}: addr2line agrees on {agreed} of {asked}, {len(named) - asked} not compared")
    if agreed < 0.95 * asked:
        problems.append(f"{path}: addr2line agrees on {agreed} of {asked} only")
    return problems


def built(name, *options):
    path = str(pathlib.Path(scratch.name) / name)
    source = pathlib.Path(scratch.name) / "program.c"
    source.write_text(SOURCE)
    subprocess.run(["cc", "-O1", "-o", path, str(source), *options], check=True)
    return path


def address_of(path, name):
    return next(int(l.split()[0], 16) for l in output("nm", path).splitlines() if l.split()[-1] == name)


def name_at(program, path, address):
    offset, segment, _ = next(s for s in executable_segments(path) if s[1] <= address < s[1] + s[2])
    return next(ask(program, path, [address - segment + offset]))[4]


def with_minidebug(path, kept):
    """A copy without .symtab, whose symbols lie in .gnu_debugdata as gdb's manual says."""
    stripped, mini, packed = path + ".stripped", path + ".mini", path + ".xz"
    subprocess.run(["objcopy", "--only-keep-debug", path, mini], check=True)
    pathlib.Path(packed).write_bytes(kept(lzma.compress(pathlib.Path(mini).read_bytes(), check=lzma.CHECK_CRC32)))
    subprocess.run(["strip", "-s", "-o", stripped, path], check=True)
    subprocess.run(["objcopy", "--add-section", f".gnu_debugdata={packed}", stripped], check=True)
    return stripped


def preferences(program):
    path = built("preferences")
    expected = {"__shared": "shared_too", "_ZN5outer5innerIiEEvT_": "outer::inner<int>", "hidden_helper": "hidden_helper",
                "unsized": "", "sized": "sized", "main": "main"}
    return [f"{symbol} is called '{got}', not '{name}'" for symbol, name in expected.items()
            if (got := name_at(program, path, address_of(path, symbol))) != name]


def minidebug(program):
    path = built("mini")
    stripped = with_minidebug(path, lambda packed: packed)
    problems = compare(program, stripped, truth_path=path)
    if (got := name_at(program, stripped, address_of(path, "hidden_helper"))) != "hidden_helper":
        problems.append(f"hidden_helper is called '{got}'")
    return problems


def damaged_minidebug(program):
    path = built("damaged")
    stripped = with_minidebug(path, lambda packed: packed[:len(packed) // 2])
    got = name_at(program, stripped, address_of(path, "hidden_helper"))
    return [f"a name out of a damaged file: {got}"] if got else []


def main():
    program = sys.argv[1]
    seed = random.randrange(1 << 32)
    random.seed(seed)
    print(f"# seed {seed}")
    files = sorted({str(pathlib.Path(p).resolve()) for pattern in SYSTEM_FILES for p in glob.glob(pattern)})
    tests = [(f"names in {pathlib.Path(path).name}", lambda path=path: compare(program, path)) for path in files]
    tests += [("names and stubs of the PLT, bound lazily", lambda: compare(program, built("lazy", "-Wl,-z,lazy"))),
              ("names and stubs of the PLT with CET", lambda: compare(program, built("cet", "-fcf-protection=full",
                                                                                  "-Wl,-z,ibtplt", "-Wl,-z,lazy"))),
              ("the best of the names that share an address", lambda: preferences(program)),
              ("a mini debug file gives the names that were stripped", lambda: minidebug(program)),
              ("a damaged mini debug file costs names only", lambda: damaged_minidebug(program))]
    print(f"1..{len(tests)}")
    for name, test in tests:
        tell(name, test())


main()

# SPDX-License-Identifier: GPL-2.0-or-later
"""Source lines and inlined functions against binutils' addr2line: argument 1 is line_addresses, the others are programs with DWARF."""
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

SAMPLE = 1500  # addresses a file
# Of the addresses that both know. binutils gives some lines of headers to the unit's own file.
LEAST_EQUAL, LEAST_EQUAL_CXX = 0.98, 0.95
CXX = r"""
#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>
template <typename T> static inline T twice(T x) { return x + x; }
struct Shape { virtual ~Shape() {} virtual int area() const = 0; };
struct Square : Shape { int side; explicit Square(int s) : side(s) {} int area() const override { return twice(side) * side / 2; } };
int main(int argc, char **argv)
{
	std::vector<std::string> names(argv, argv + argc);
	std::map<std::string, int> sums;
	std::sort(names.begin(), names.end(), [](const std::string &a, const std::string &b) { return a.size() < b.size(); });
	for (auto &name : names) sums[name] += Square(static_cast<int>(name.size())).area();
	for (auto &entry : sums) std::printf("%s %d\n", entry.first.c_str(), entry.second);
}
"""
scratch = tempfile.TemporaryDirectory()
count = 0


def tell(name, problems):
    global count
    count += 1
    for problem in problems[:12]:
        print(f"# {problem[:600]}")
    print(f"{'not ok' if problems else 'ok'} {count} - {name}", flush=True)


def output(*command, text=None):
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout


def executable_segment(path):
    for line in output("readelf", "-lW", path).splitlines():
        fields = line.split()
        if fields and fields[0] == "LOAD" and "E" in "".join(fields[6:-1]):
            return int(fields[1], 16), int(fields[2], 16), int(fields[4], 16)
    raise ValueError(f"{path} has no code")


def ours(files, offsets):
    """{offset: [(inlined function or None, base name of the file, line)]}, and the path of the missing common file."""
    found, current, missing = {}, None, None
    for line in output(sys.argv[1], *files, text="".join(f"{o:x}\n" for o in offsets)).splitlines():
        if line.startswith("  "):
            function, file, number = line[2:].split("\t")
            current.append((None if function == "-" else function, os.path.basename(file), int(number)))
        elif line.startswith("missing "):
            missing = line[8:]
        else:
            current = found.setdefault(int(line, 16), [])
    return found, missing


def theirs(path, addresses):
    """As ours, but with the function's name at the end, too; by binutils."""
    found = {}
    text = output("addr2line", "-a", "-i", "-f", "-e", path, text="".join(f"{a:#x}\n" for a in addresses))
    for block in re.split(r"^0x", text, flags=re.M)[1:]:
        lines = block.splitlines()
        places = []
        for function, place in zip(lines[1::2], lines[2::2]):
            file, _, number = place.split(" (")[0].rpartition(":")
            places.append((function, os.path.basename(file), int(number) if number.isdigit() else 0))
        found[int(lines[0], 16)] = places
    return found


def short(places):
    return " < ".join(f"{function or '-'} {file}:{line}" for function, file, line in places)


def same(own, other, with_names):
    if len(own) != len(other):
        return False
    for (function, file, line), (name, their_file, their_line) in zip(own, other):
        if (file, line) != (their_file, their_line) or (with_names and function and function != name):
            return False
    return True


def compare(path, with_names=True):
    start, address, size = executable_segment(path)
    offsets = sorted(random.sample(range(start, start + size), min(SAMPLE, size)))
    own, _ = ours([path], offsets)
    other = theirs(path, [o - start + address for o in offsets])
    known = equal = inlined = 0
    problems = []
    for offset in offsets:
        mine, their = own[offset], other[offset - start + address]
        if not mine or their[0][1] == "??" or not their[0][2] or not mine[0][2]:
            continue
        known += 1
        inlined += len(mine) > 1
        if same(mine, their, with_names):
            equal += 1
        else:
            problems.append(f"{offset - start + address:x}: {short(mine)}, addr2line: {short(their)}")
    print(f"# {path}: {known} of {len(offsets)} addresses known to both, {inlined} in inlined functions, {equal} equal")
    good = known > len(offsets) / 3 and inlined > known / 20 and equal >= (LEAST_EQUAL if with_names else LEAST_EQUAL_CXX) * known
    return [] if good else problems + [f"{known} known, {inlined} inlined, {equal} equal"]


def build():
    source, program = pathlib.Path(scratch.name) / "shapes.cc", f"{scratch.name}/shapes"
    source.write_text(CXX)
    subprocess.run(["g++", "-O2", "-g", "-o", program, str(source)], check=True)
    return program


def test_split(program):
    """A stripped object with its debug file says the same; with another's or none it says nothing."""
    debug, stripped = program + ".debug", program + ".stripped"
    subprocess.run(["objcopy", "--only-keep-debug", program, debug], check=True)
    subprocess.run(["objcopy", "--strip-all", program, stripped], check=True)
    start, _, size = executable_segment(program)
    offsets = range(start, start + size, 7)
    problems = []
    if ours([stripped, debug], offsets) != ours([program], offsets):
        problems.append("other lines by the debug file")
    for files in ([stripped], [stripped, sys.argv[1]]):
        result = subprocess.run([sys.argv[1], *files], input=f"{start:x}\n", capture_output=True, text=True)
        if result.returncode == 0:
            problems.append(f"{files}: lines from nowhere: {result.stdout}")
    return problems


def test_common(program):
    """What dwz has moved into a common file is found there, and missed by name when it isn't given."""
    copies = [shutil.copy(program, f"{program}.{n}") for n in "ab"]
    common = program + ".common"
    subprocess.run(["dwz", "-m", common, "-M", "common/shapes.debug", *copies], check=True, capture_output=True)
    start, _, size = executable_segment(program)
    offsets = range(start, start + size, 7)
    whole, missing = ours([copies[0], copies[0], common], offsets)
    _, missed = ours([copies[0]], offsets)
    problems = []
    if whole != ours([program], offsets)[0] or missing:
        problems.append("other lines with the common file")
    if missed != "common/shapes.debug":
        problems.append(f"the common file is missed as {missed}")
    return problems


random.seed(20240607)
print(f"1..{len(sys.argv) + 1}")
shapes = build()
# binutils has other names for what was inlined from templates: the caller's, or those of .symtab.
tell("a program in C++: lines agree with addr2line", compare(shapes, with_names=False))
for path in sys.argv[2:]:
    tell(f"{os.path.basename(path)}: lines agree with addr2line", compare(path))
tell("a stripped program with its debug file", test_split(shapes))
tell("a common file of dwz", test_common(shapes))

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Flame graphs: every format read back by what was not written here (xmllint, protoc, Python), differences, hot and cold."""
import gzip
import json
import os
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from fake_stackd import HEALTHY, HOSTILE, NOW_US, PROCESS, WINDOW, Close, anomaly, cluster, flame, frame, incident, reply
from harness import DIRECTORY, ENVIRONMENT, SOCKET, STACKCTL, TIMEOUT, FakeStackd, bad, good, in_terminal, main, run, test

SVG = "{http://www.w3.org/2000/svg}"
BEFORE = """\
app;main;parse;json 300
app;main;parse;xml 100
app;main;old;compress 200
app;main;io;read;vfs_read_[k] 250
"""
AFTER = """\
app;main;parse;json 600
app;main;parse;xml 80
app;main;new;look_up 150
app;main;io;read;vfs_read_[k] 250
"""


def path(name):
    return os.path.join(DIRECTORY, name)


def write(name, text):
    with open(path(name), "w" if isinstance(text, str) else "wb") as file:
        file.write(text)
    return path(name)


def read(name):
    with open(path(name), "rb") as file:
        return file.read()


def drawn(name, *args, **options):
    good("flame", *args, "-o", path(name), **options)
    return read(name)


def drawn_file(name, text, *args):
    done = run("flame", write("input", text), *args, "-o", path(name), server=False)
    assert done.returncode == 0, done.stderr
    return read(name)


def lint(data):
    done = subprocess.run(["xmllint", "--noout", "-"], input=data, capture_output=True, timeout=TIMEOUT)
    assert done.returncode == 0 and done.stderr == b"", done.stderr[:2000]
    return ElementTree.fromstring(data)


def frames_of(svg):
    """(name, x, width, depth, what the tooltip says) of each frame."""
    return [
        (
            g.get("data-n"),
            int(g.get("data-x")),
            int(g.get("data-w")),
            int(g.get("data-d")),
            g.find(SVG + "title").text,
        )
        for g in svg.iter(SVG + "g")
        if g.get("class", "").split()[:1] == ["f"]
    ]


def head_of(svg):
    """The title, and the lines below it."""
    return [t.text for t in svg.find(f"{SVG}g[@id='head']").iter(SVG + "text")]


def by_name(svg):
    return {f[0]: f for f in frames_of(svg)}


def rows(*stacks):
    return [
        {"stack": "%016x" % i, "value": value, "truncated": False, "comm": comm, "frames": frames}
        for i, (comm, frames, value) in enumerate(stacks, 1)
    ]


def flame_of(*stacks, **changes):
    answer = flame(stacks=rows(*stacks))
    answer["parameters"]["window"] = {**WINDOW, **changes}
    return answer


@test
def suffix_says_the_format():
    for suffix, begins in [
        (".folded", b"my_prog;main;do_work(int);vfs_read_[k] 500\n"),
        (".txt", b"my_prog;"),
        (".svg", b"<?xml "),
        (".html", b"<!DOCTYPE html>"),
        (".speedscope.json", b'{"$schema":"https://www.speedscope.app'),
        (".json", b'{"name":"all","value":700,'),
        (".pb.gz", b"\x1f\x8b"),
    ]:
        assert drawn("a" + suffix).startswith(begins), suffix
    assert drawn("a.svg", "--format=d3").startswith(b'{"name":"all"')
    assert good("flame", "--format=svg").out.encode() == drawn("a.svg") == good(
        "flame", "--format=svg", "-o", "-"
    ).out.encode()
    assert drawn("a.folded") == good("flame").stdout
    err = bad("flame", "-o", path("a.png"), server=False)
    assert "does not say a format" in err and ".speedscope.json" in err
    assert "folded, svg, html, speedscope, pprof or d3" in bad("flame", "--format=png", server=False)


@test
def inlined_functions_split_stacks_by_shares():
    done = good("flame", "--inlines")
    assert [(m, p.get("stack")) for m, p, _ in done.calls] == [
        ("GetFlame", None), ("GetLines", "00000000000000bb"), ("GetLines", "00000000000000bc")
    ], done.calls
    assert sorted(done.out.splitlines()) == [
        "gzip;[truncated];do_work(int);read 20",
        "gzip;[truncated];main;read 80",
        "gzip;[truncated];main;read;check_[i] 100",
        "my_prog;main;do_work(int);vfs_read_[k] 50",
        "my_prog;main;read 200",
        "my_prog;main;read;check_[i] 250",
    ], done.out
    assert "libz.so.1 are not known" in done.err and done.err.count("\n") == 1, done.err
    assert good("flame", "--inlines", "-q").err == ""
    assert b"by the shares of all that is known" in drawn("a.svg", "--inlines")
    assert "--inlines and --hot-cold can't" in bad("flame", "--inlines", "--hot-cold", server=False)


@test
def options_that_exclude_each_other():
    def refused(*args):
        return bad("flame", *args, server=False)

    assert "--since and --diff can't" in refused("--diff=5min", "-S10m") or "--diff and --since can't" in refused(
        "--diff=5min", "-S10m"
    )
    assert "--diff and --pid can't" in refused("--diff=pid:1..pid:2", "-p3")
    assert "--diff and --anomaly can't" in refused("--diff=5min", "--anomaly=1")
    assert "--incident and --cluster can't" in refused("--incident=1", "--cluster=00000000000000c1")
    assert "--anomaly and --incident can't" in refused("--incident=1", "--anomaly=1")
    assert "--incident and --hot-cold can't" in refused("--incident=1", "--hot-cold")
    assert "is no incident" in refused("--incident=0") and "is no cluster" in refused("--cluster=7")
    assert "--hot-cold and --metric can't" in refused("--hot-cold", "-mhits")
    assert "A saved file has no unit" in refused("x.folded", "-u", "a")
    assert "--json gives stackd's own answer, and does not take --hot-cold" in refused("--json", "--hot-cold")
    assert "is no anomaly" in refused("--anomaly=x") and "from 320 to 16384" in refused("--width=10")
    for diff, why in [
        ("5min..6min", "a window is SINCE/UNTIL"),
        ("10:00/09:00..09:00/09:30", "ends before it begins"),
        ("2099-01-01/+1h..2099-01-02/+1h", "begins in the future"),
        ("x.folded", "neither two windows"),
        ("today/+0s..today/+1s", "ends before it begins"),
        ("pid:0..pid:2", "a window is SINCE/UNTIL"),
    ]:
        assert why in refused("--diff", diff), diff


@test
def picture_says_what_it_is_of():
    svg = lint(drawn("a.svg", "-u", "backup.service", "-m", "on-cpu"))
    texts = head_of(svg) + [t.text for t in svg.iter(SVG + "text")]
    assert texts[0] == "on-cpu, backup.service"
    assert texts[1] == "2026-11-23 09:45:00 to 2026-11-23 10:00:00 (15min), load 1.25, gate open 30 s, 12 lost"
    assert texts[2] == "total 700ns"
    assert {"kernel", "library", "program"} <= set(texts) and "JIT" not in texts
    tips = {f[0]: f[4] for f in frames_of(svg)}
    assert tips["vfs_read"] == "vfs_read ([kernel]): 500ns, 71.43%", tips
    assert tips["all"] == "all: 700ns, 100.00%"
    # A title that is too long is cut to what fits, but not the document's.
    svg = lint(drawn("a.svg", "--title", "<&>" + "é" * 300, "--width", "400"))
    title, shown = svg.find(SVG + "title").text, head_of(svg)[0]
    assert title == "<&>" + "é" * 300 and shown.startswith("<&>éé") and shown.endswith("é…") and len(shown) < 40, shown
    assert lint(drawn("a.svg", "--title", "A <b> & c")).find(SVG + "title").text == "A <b> & c"
    for text in (drawn("a.svg").decode(), drawn("a.html").decode()):
        assert not re.search(r"(\bsrc=|href|@import|url\()", text), "something is loaded from elsewhere"
    assert "default-src 'none'" in read("a.html").decode()


@test
def frames_lie_on_their_callers():
    source, numbers = random.Random(7), []
    for _ in range(500):
        names = [source.choice("abcdefg") for _ in range(source.randint(1, 9))]
        numbers.append("p;" + ";".join(names) + f" {source.randint(10, 1000)}\n")
    data = drawn_file("a.svg", "".join(numbers), "--width=16384")
    frames, path_to = frames_of(lint(data)), []
    expected = {}
    for line in numbers:
        names, value = line.rsplit(" ", 1)
        for n in range(len(names.split(";")) + 1):
            key = ("all", *names.split(";")[:n])
            expected[key] = expected.get(key, 0) + int(value)
    found, last = {}, {}
    for name, x, width, depth, _ in frames:
        path_to[depth:] = [name]
        key = tuple(path_to)
        assert key not in found, key
        found[key] = width
        if depth:
            parent = last[depth - 1]
            assert parent[0] <= x and x + width <= parent[0] + parent[1], key
        if depth in last and last[depth][2] == key[:-1]:
            assert x == last[depth][0] + last[depth][1] and name > last[depth][3], key
        last[depth] = (x, width, key[:-1], name)
    assert found == expected
    source.shuffle(numbers)
    assert drawn_file("b.svg", "".join(numbers), "--width=16384") == data, "the order of the input shows"
    icicle = frames_of(lint(drawn_file("c.svg", "".join(numbers), "--inverted", "--width=16000")))
    assert icicle == frames and b'width="16000"' in read("c.svg")


@test
def narrow_frames_are_counted():
    lines = [f"p;a{i % 100};b{i % 5000};c{i} {1 + i % 7}\n" for i in range(60000)]
    svg = lint(drawn_file("a.svg", "".join(lines)))
    shown = len(frames_of(svg))
    said = [t.text for t in svg.iter(SVG + "text") if t.get("id") == "left-out"]
    nodes = 2 + 100 + 5000 + 60000
    assert 2 <= shown <= 16000 and said == [f"{nodes - shown} frames too narrow to be shown"], (shown, said)
    tree = json.loads(drawn_file("a.json", "".join(lines)))

    def count(node):
        return 1 + sum(count(c) for c in node.get("children", []))

    assert count(tree) == nodes, "other formats leave nothing out"


@test
def hostile_names_stay_names():
    names = [HOSTILE, "</title><script>alert(1)</script>", "]]>", "a\"b'c&d;e", "\ufffe\uffff", "-->", "\\u0041", ""]
    answer = flame(
        frames=[frame(n, n) for n in names],
        stacks=rows(*[(n, [i, (i + 1) % len(names)], 10) for i, n in enumerate(names)]),
    )
    answers = {"GetFlame": [answer]}
    svg = lint(drawn("a.svg", answers=answers))
    assert len(list(svg.iter(SVG + "script"))) == 1
    found = {f[0] for f in frames_of(svg)}
    assert {"\\x1b[31mred\\x07\\u202e", names[1], names[2], names[3], "[unknown]"} <= found, found
    html = drawn("a.html", answers=answers).decode()
    assert html.count("<script") == 1 and not re.search("[\x00-\x08\x0b-\x1f\u202e\ufffe]", html)
    for name in ("a.json", "a.speedscope.json"):
        assert names[1] in json.dumps(json.loads(drawn(name, answers=answers)), ensure_ascii=False)
    # What a page's title says comes from the command line or a file's name.
    assert "<b>" not in drawn("b.html", "--title", "<b>").decode().replace("<body>", "")


@test
def speedscope_takes_it():
    """What its schema (file-format-spec.ts) asks for."""
    f = json.loads(drawn("a.speedscope.json"))
    assert f["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    frames, (profile,) = f["shared"]["frames"], f["profiles"]
    assert all(set(x) <= {"name", "file", "line", "col"} and x["name"] for x in frames)
    assert profile["type"] == "sampled" and profile["unit"] == "nanoseconds"
    assert profile["startValue"] == 0 and profile["endValue"] == sum(profile["weights"]) == 700
    stacks = [[frames[i]["name"] for i in s] for s in profile["samples"]]
    assert sorted(zip(stacks, profile["weights"])) == [
        (["gzip", "[truncated]", "do work(int)", "read"], 200),
        (["my prog", "main", "do work(int)", "vfs_read"], 500),
    ]
    assert {"name": "read", "file": "libc.so.6"} in frames
    faults = flame()
    faults["parameters"]["metric"] = "faults_minor"
    f = json.loads(drawn("b.speedscope.json", "-m", "faults-minor", answers={"GetFlame": [faults]}))
    assert f["profiles"][0]["unit"] == "none"
    faults["parameters"]["metric"] = "brk"
    f = json.loads(drawn("c.speedscope.json", "-m", "brk", answers={"GetFlame": [faults]}))
    assert f["profiles"][0]["unit"] == "bytes"


@test
def d3_takes_it():
    def check(node):
        assert node["value"] >= sum(check(c) for c in node.get("children", []))
        return node["value"]

    tree = json.loads(drawn("a.json"))
    assert check(tree) == 700 and tree["unit"] == "ns"
    gzip_, prog = tree["children"]
    assert (gzip_["name"], prog["name"], prog["kind"]) == ("gzip", "my prog", "process")
    leaf = prog["children"][0]["children"][0]["children"][0]
    assert leaf == {"name": "vfs_read", "value": 500, "kind": "kernel", "object": "[kernel]"}


# Of github.com/google/pprof/proto/profile.proto, what is used.
PROTO = """
syntax = "proto3";
message ValueType { int64 type = 1; int64 unit = 2; }
message Label { int64 key = 1; int64 str = 2; }
message Sample { repeated uint64 location_id = 1; repeated int64 value = 2; repeated Label label = 3; }
message Mapping { uint64 id = 1; uint64 memory_limit = 3; int64 filename = 5; int64 build_id = 6; bool has_functions = 7; }
message Line { uint64 function_id = 1; }
message Location { uint64 id = 1; uint64 mapping_id = 2; uint64 address = 3; repeated Line line = 4; }
message Function { uint64 id = 1; int64 name = 2; int64 system_name = 3; int64 filename = 4; }
message Profile {
  repeated ValueType sample_type = 1;
  repeated Sample sample = 2;
  repeated Mapping mapping = 3;
  repeated Location location = 4;
  repeated Function function = 5;
  repeated string string_table = 6;
  int64 time_nanos = 9;
  int64 duration_nanos = 10;
  repeated int64 comment = 13;
  int64 default_sample_type = 14;
}
"""


def fields(message):
    """A message as protoc prints it: {field: [number, text or dict]}."""
    found = {}
    for line in message:
        line = line.strip()
        if line == "}":
            break
        if line.endswith("{"):
            found.setdefault(line[:-2], []).append(fields(message))
        else:
            name, value = line.split(": ", 1)
            found.setdefault(name, []).append(value[1:-1] if value[0] == '"' else json.loads(value))
    return found


def profile_of(data):
    write("profile.proto", PROTO)
    command = ["protoc", "--decode=Profile", "--proto_path", DIRECTORY, "profile.proto"]
    done = subprocess.run(command, input=gzip.decompress(data), capture_output=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    # What protoc doesn't know it prints by number.
    assert not re.search(rb"^ *\d+[:{ ]", done.stdout, re.M), "a field that profile.proto doesn't have"
    return fields(iter(done.stdout.decode().splitlines()))


def samples_of(profile):
    """(process, functions from the innermost, objects, values), by following every number."""
    strings = profile["string_table"]
    functions = {f["id"][0]: f for f in profile["function"]}
    mappings = {m["id"][0]: strings[m["filename"][0]] for m in profile.get("mapping", [])}
    locations = {x["id"][0]: x for x in profile["location"]}
    for sample in profile["sample"]:
        found = [locations[i] for i in sample["location_id"]]
        names = [strings[functions[x["line"][0]["function_id"][0]]["name"][0]] for x in found]
        objects = [mappings[x["mapping_id"][0]] if "mapping_id" in x else "" for x in found]
        labels = {strings[x["key"][0]]: strings[x["str"][0]] for x in sample.get("label", [])}
        yield labels.get("process"), names, objects, sample["value"]


@test
def pprof_takes_it():
    profile = profile_of(drawn("a.pb.gz"))
    strings = profile["string_table"]
    assert strings[0] == "" and [(strings[t["type"][0]], strings[t["unit"][0]]) for t in profile["sample_type"]] == [
        ("on-cpu", "nanoseconds")
    ]
    assert sorted(samples_of(profile)) == [
        ("gzip", ["read", "do work(int)", "[truncated]"], ["libc.so.6", "prog", ""], [200]),
        ("my prog", ["vfs_read", "do work(int)", "main"], ["[kernel]", "prog", "prog"], [500]),
    ]
    # The first is what pprof calls the file: the program, not whichever object came first.
    libc_first = flame_of(("a", [0, 1], 900), ("b", [1, 2], 100))
    libc_first["parameters"]["frames"] = [frame("start", "libc.so.6"), frame("main"), frame("work")]
    odd = profile_of(drawn("d.pb.gz", answers={"GetFlame": [libc_first]}))
    assert [odd["string_table"][m["filename"][0]] for m in odd["mapping"]] == ["prog", "libc.so.6"]
    assert profile["time_nanos"] == [WINDOW["since_us"] * 1000]
    assert profile["duration_nanos"] == [(WINDOW["until_us"] - WINDOW["since_us"]) * 1000]
    assert strings[profile["comment"][0]] == "on-cpu, all processes"
    assert drawn("b.pb.gz") == read("a.pb.gz"), "no time in it"
    big = profile_of(drawn_file("c.pb.gz", "".join(f"p;f{i};g{i % 7} {i}0000000000\n" for i in range(1, 3000))))
    assert sorted(samples_of(big)) == sorted(("p", [f"g{i % 7}", f"f{i}", "p"], [""] * 3, [i * 10**10]) for i in range(1, 3000))
    out = in_terminal("flame", "--format=pprof")
    assert out[1] == 1 and "not for terminals" in out[0]


@test
def pprof_tells_builds_and_addresses():
    answer = flame_of(("new", [0, 1], 300), ("old", [0, 2], 200), ("old", [3], 100))
    answer["parameters"]["frames"] = [
        frame("main"),
        {**frame("work", "libx.so.1"), "build_id": "aa" * 20, "address": 0x1100},
        {**frame("work", "libx.so.1"), "build_id": "bb" * 20, "address": 0x2200},
        {**frame("vfs_read", "[kernel]", "kernel"), "build_id": "cc" * 20},
    ]
    done = good("flame", "-o", path("a.pb.gz"), answers={"GetFlame": [answer]})
    assert done.calls[0][1]["objects"] is True
    assert "objects" not in good("flame", "-o", path("a.svg"), answers={"GetFlame": [answer]}).calls[0][1], "nobody shows them there"
    profile = profile_of(read("a.pb.gz"))
    strings = profile["string_table"]
    mappings = {m["id"][0]: (strings[m["filename"][0]], strings[m["build_id"][0]] if "build_id" in m else "") for m in profile["mapping"]}
    assert sorted(mappings.values()) == [("[kernel]", "cc" * 20), ("libx.so.1", "aa" * 20), ("libx.so.1", "bb" * 20), ("prog", "")]
    # pprof takes such addresses as those that the file itself has, and looks for no names.
    assert all(m["has_functions"] == ["true"] or m["has_functions"] == [True] for m in profile["mapping"])
    assert {m.get("memory_limit", [0])[0] for m in profile["mapping"]} == {0, 2**64 - 1}
    found = sorted((mappings[x["mapping_id"][0]][1][:2], x["address"][0]) for x in profile["location"] if "address" in x)
    assert found == [("aa", 0x1100), ("bb", 0x2200)], found


@test
def threads_are_told_apart():
    answer = flame_of(("worker", [0], 300), ("worker", [1], 200), ("main", [0], 100))
    for row, tid in zip(answer["parameters"]["stacks"], (101, 101, 102)):
        row["tid"] = tid
    done = good("flame", "--threads", answers={"GetFlame": [answer]})
    assert done.calls[0][1]["threads"] is True and done.out.splitlines()[0].startswith("worker/101;"), done.out
    svg = lint(drawn("a.svg", "--threads", answers={"GetFlame": [answer]}))
    frames = by_name(svg)
    assert (frames["worker/101"][2], frames["main/102"][2]) == (500, 100), frames
    assert head_of(svg)[0] == "on-cpu, by thread" and "of samples taken in it alone" in head_of(svg)[1]
    samples = list(samples_of(profile_of(drawn("a.pb.gz", "--threads", answers={"GetFlame": [answer]}))))
    assert {s[0] for s in samples} == {"worker/101", "main/102"}
    done = good("flame", "--tid=101", "--pid=7")
    assert done.calls[0][1]["tid"] == 101 and done.calls[0][1]["filter"]["pid"] == 7
    assert head_of(lint(drawn("a.svg", "--tid", "101")))[0] == "on-cpu, thread 101"
    assert "no thread id" in bad("flame", "--tid=0", server=False)
    assert "--hot-cold" in bad("flame", "--threads", "--hot-cold", server=False)
    assert "--threads" in bad("top", "--threads", server=False)


@test
def differences_of_files():
    a, b = write("a.folded", BEFORE), write("b.folded", AFTER)

    def diff(*args):
        done = run("flame", "--diff", a, b, *args, server=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    assert diff() == (
        "app;main;io;read;vfs_read_[k] 250 250\napp;main;new;look_up 0 150\napp;main;old;compress 200 0\n"
        "app;main;parse;json 300 600\napp;main;parse;xml 100 80\n"
    )
    svg = lint(diff("--format=svg").encode())
    frames = by_name(svg)
    assert frames["all"][2] == 250 + 150 + 200 + 600 + 100
    assert frames["old"][2] == 200 and frames["old"][4] == "old: 200 before (23.53%), 0 after (0.00%), gone"
    assert frames["new"][4] == "new: 0 before (0.00%), 150 after (13.89%), new"
    assert frames["parse"][4] == "parse: 400 before (47.06%), 680 after (62.96%), +70.0%"
    gone = {g.get("data-n") for g in svg.iter(SVG + "g") if g.get("class", "").startswith("f gone")}
    assert gone == {"old", "compress"}
    colours = {g.get("data-n"): g.find(SVG + "rect").get("fill") for g in svg.iter(SVG + "g") if g.get("data-n")}
    red, blue = ([int(colours[n][i : i + 2], 16) for i in (1, 3, 5)] for n in ("new", "old"))
    assert red[0] > red[2] + 80 and blue[2] > blue[0] + 80 and colours["json"] not in (colours["new"], colours["io"])
    # What it writes it takes back, as it takes difffolded.pl's.
    again = run("flame", write("d.folded", diff()), server=False)
    assert again.stdout.decode() == diff(), again.stderr
    tree = json.loads(diff("--format=d3"))
    assert (tree["value"], tree["before"], tree["after"], tree["delta"]) == (1300, 850, 1080, 230)
    profiles = json.loads(diff("--format=speedscope"))["profiles"]
    assert [(p["name"], p["endValue"], sum(p["weights"])) for p in profiles] == [
        ("before", 850, 850),
        ("after", 1080, 1080),
    ]
    run("flame", "--diff", a, b, "-o", path("d.pb.gz"), server=False)
    profile = profile_of(read("d.pb.gz"))
    types = [profile["string_table"][t["type"][0]] for t in profile["sample_type"]]
    assert types == ["before", "after"]
    assert ("app", ["compress", "old", "main", "app"], [""] * 4, [200, 0]) in list(samples_of(profile))


@test
def differences_of_windows():
    answer = flame_of(
        ("app", [0, 1], 100),
        ("app", [0, 2], 50),
        since_us=NOW_US - 600 * 10**6,
        until_us=NOW_US - 300 * 10**6,
    )
    done = good(
        "flame",
        "--diff",
        "2026-11-23 09:50:00 UTC/+5min..2026-11-23 10:00:00 Europe/Berlin/2026-11-23 10:30:00 Europe/Berlin",
        "-p12",
        answers={"GetFlame": [answer]},
    )
    assert [c[0] for c in done.calls] == ["GetFlame"] * 2
    filters = [c[1]["filter"] for c in done.calls]
    assert [(f["since_us"] // 10**6, f["until_us"] // 10**6, f["pid"]) for f in filters] == [
        (NOW_US // 10**6 - 600, NOW_US // 10**6 - 300, 12),
        (NOW_US // 10**6 - 3600, NOW_US // 10**6 - 1800, 12),
    ]
    assert done.out == "app;main;do_work(int) 100 100\napp;main;read 50 50\n"
    done = good("flame", "--diff=5min", answers={"GetFlame": [answer]})
    (a, b) = (c[1]["filter"] for c in done.calls)
    assert a["until_us"] == b["since_us"] and a["until_us"] - a["since_us"] == b["until_us"] - b["since_us"] == 3 * 10**8


def by_turns(turns, *args, answers=HEALTHY):
    """stackctl flame, with another answer to each GetFlame."""
    turns = list(turns)

    class Fake(FakeStackd):
        def _answer(self, connection, call):
            if call["method"].endswith("GetFlame"):
                self.answers = {**self.answers, "GetFlame": [turns.pop(0)]}
            return super()._answer(connection, call)

    with Fake(SOCKET, answers) as fake:
        done = subprocess.run([STACKCTL, "flame", *args], capture_output=True, timeout=TIMEOUT, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode(), fake.calls


@test
def differences_of_processes():
    """Both are asked for the same window, which has ended."""
    answer = flame_of(("app", [0, 1], 100), ("app", [0, 2], 50))
    text, calls = by_turns([answer, flame_of(("app", [0, 1], 30))], "--diff=pid:12..pid:34")
    filters = [c[1]["filter"] for c in calls if c[0] == "GetFlame"]
    assert [f["pid"] for f in filters] == [12, 34], filters
    assert filters[0]["since_us"] == filters[1]["since_us"] and filters[0]["until_us"] == filters[1]["until_us"], filters
    assert text == "app;main;do_work(int) 100 30\napp;main;read 50 0\n", text
    svg, _ = by_turns([answer, answer], "--diff=pid:12..pid:34", "--format=svg")
    assert head_of(lint(svg.encode()))[0] == "on-cpu, processes 12 (before) and 34 (after)"


@test
def windows_of_different_length_are_scaled():
    minute = flame_of(("app", [0], 100), since_us=NOW_US - 60 * 10**6)
    three = flame_of(("app", [0], 240), since_us=NOW_US - 180 * 10**6)
    text, _ = by_turns([minute, three], "--diff=5min")
    assert text == "app;main 300 240\n"
    svg, _ = by_turns([minute, three], "--diff=5min", "--format=svg")
    texts = head_of(lint(svg.encode()))
    assert texts[1].startswith("before: ") and texts[2].startswith("after: ")
    assert texts[3] == "before is multiplied by 3, for windows of the same length"


@test
def before_and_during_an_anomaly():
    found = anomaly(7, metric="blocked", time_us=NOW_US - 100 * 10**6, since_us=NOW_US - 130 * 10**6)
    answers = {"ListAnomalies": [reply(anomalies=[anomaly(9), found], missed=0)]}
    done = good("flame", "--anomaly=7", "--format=svg", answers=answers)
    calls = [c[1] for c in done.calls if c[0] == "GetFlame"]
    assert [c["metric"] for c in calls] == ["blocked"] * 2
    base = {"unit": "backup.service", "exe": "/usr/bin/gzip"}
    assert calls[0]["filter"] == {**base, "since_us": NOW_US - 190 * 10**6, "until_us": NOW_US - 130 * 10**6}
    assert calls[1]["filter"] == {**base, "since_us": NOW_US - 130 * 10**6, "until_us": NOW_US - 40 * 10**6}
    assert "blocked, before and during anomaly 7 (level_shift), backup.service, /usr/bin/gzip" in done.out
    done = good("flame", "--anomaly=7", "-p", "12", "-m", "hits", answers=answers)
    calls = [c[1] for c in done.calls if c[0] == "GetFlame"]
    assert calls[0]["metric"] == "hits" and set(calls[0]["filter"]) == {"pid", "since_us", "until_us"}
    assert "No such anomaly is kept: 8" in bad("flame", "--anomaly=8", answers=answers)


def programs(*rows_):
    return [{"unit": u, "cgroup": c, "exe": e, "comm": "x", "uid": 0} for u, c, e in rows_]


def asked_of(calls):
    """(the filters without times, the windows) of what was asked by GetFlame."""
    filters = [c[1]["filter"] for c in calls if c[0] == "GetFlame"]
    times = [(f.pop("since_us"), f.pop("until_us")) for f in filters]
    return filters, times


@test
def before_and_during_an_incident():
    (moved,) = incident()["moved"]
    opened, closed = NOW_US - 600 * 10**6, NOW_US - 480 * 10**6
    answers = {
        "ListIncidents": [reply(incidents=[incident(moved=[moved, {**moved, "anomaly": 9, "metric": "runnable"}])])],
        # What moved most had begun 20 s before it was told; what came along, an hour before.
        "ListAnomalies": [
            reply(anomalies=[anomaly(9, since_us=opened - 3600 * 10**6), anomaly(42, since_us=opened - 20 * 10**6)], missed=0)
        ],
    }
    done = good("flame", "--incident=7", "--format=svg", answers=answers)
    assert [c[1] for c in done.calls if c[0] == "ListIncidents"] == [{"id": 7}]
    assert [c[1]["metric"] for c in done.calls if c[0] == "GetFlame"] == ["blocked"] * 2
    filters, times = asked_of(done.calls)
    assert filters == [{"unit": "shop.service", "exe": "/usr/bin/shop"}] * 2
    assert times == [(opened - 80 * 10**6, opened - 20 * 10**6), (opened - 20 * 10**6, closed)]
    title = "blocked, before and during incident 7 (lock contention in pool_get), shop.service, /usr/bin/shop"
    assert lint(done.stdout).find(SVG + "title").text == title
    # When its anomaly is forgotten, it began when it opened; it goes on; somebody asks for something else.
    answers = {
        "ListIncidents": [reply(incidents=[incident(closed=False)])],
        "ListAnomalies": [reply(anomalies=[], missed=0)],
    }
    done = good("flame", "--incident=7", "-p12", "-m", "on-cpu", answers=answers)
    filters, ((_, middle), (since, until)) = asked_of(done.calls)
    assert filters == [{"pid": 12}] * 2 and middle == since == opened and until > NOW_US - 10**6
    assert {c[1].get("metric") for c in done.calls if c[0] == "GetFlame"} == {"on_cpu"}
    err = bad("flame", "--incident=8", answers={"ListIncidents": [reply(incidents=[])]})
    assert "No such incident is kept: 8" in err


@test
def programs_of_an_incident_are_counted_once():
    def asked(*rows_):
        answers = {
            "ListIncidents": [reply(incidents=[incident(workloads=programs(*rows_))])],
            "ListAnomalies": [reply(anomalies=[], missed=0)],
        }
        done = good("flame", "--incident=7", "--format=svg", answers=answers)
        filters, times = asked_of(done.calls)
        half = len(filters) // 2
        assert filters[:half] == filters[half:] and len(set(times[:half])) == len(set(times[half:])) == 1
        tree = json.loads(good("flame", "--incident=7", "--format=d3", answers=answers).out)
        assert tree["after"] == 700 * half, "every answer is summed up"
        return filters[:half], lint(done.stdout).find(SVG + "title").text

    a = ("a.service", "/s/a.service", "/bin/a")
    assert asked(a, a)[0] == [{"unit": "a.service", "exe": "/bin/a"}]
    filters, title = asked(a, ("b.service", "/s/b.service", "/bin/a"), ("", "/t", "/bin/c"))
    assert [sorted(f.values()) for f in filters] == [
        ["/bin/a", "a.service"],
        ["/bin/a", "b.service"],
        ["/bin/c", "/t"],
    ]
    assert title.endswith("a.service, /bin/a and 2 more"), title
    # Whichever comes first, the wider one is asked for; "/t" is not within "/tt".
    for pair in [[("", "/t/x", "/bin/c"), ("", "/t", "/bin/c")], [("", "/t", "/bin/c"), ("", "/t/x", "/bin/c")]]:
        assert asked(*pair)[0] == [{"cgroup": "/t", "exe": "/bin/c"}]
    assert len(asked(("", "/tt", "/bin/c"), ("", "/t", "/bin/c"))[0]) == 2
    assert len(asked(("", "/t/x", "/bin/d"), ("", "/t", "/bin/c"))[0]) == 2
    assert asked(a, ("", "/s", "/bin/a"))[0] == [{"cgroup": "/s", "exe": "/bin/a"}]


@test
def latest_of_a_cluster():
    rows_ = [incident(5, opened_us=NOW_US - 9000 * 10**6, closed_us=NOW_US - 8000 * 10**6), incident(7), incident(3, opened_us=1)]
    answers = {"GetCluster": [reply(cluster=cluster(), incidents=rows_)], "ListAnomalies": [reply(anomalies=[], missed=0)]}
    done = good("flame", "--cluster=00000000000000c1", answers=answers)
    assert [c[1] for c in done.calls if c[0] == "GetCluster"] == [{"cluster": "00000000000000c1"}]
    assert asked_of(done.calls)[1][1] == (NOW_US - 600 * 10**6, NOW_US - 480 * 10**6)
    assert re.fullmatch(r"(\S+ \d+ \d+\n)+", done.out), done.out
    err = bad("flame", "--cluster=00000000000000c1", answers={"GetCluster": [reply(cluster=cluster(), incidents=[])]})
    assert "None of the incidents of cluster 00000000000000c1" in err


@test
def hot_and_cold_are_exact():
    def processes(*rows_):
        return [
            reply(
                window=WINDOW,
                processes=[
                    {"process": {**PROCESS, "pid": 100 + i, "comm": comm}, "values": values}
                    for i, (comm, values) in enumerate(rows_)
                ],
            )
        ]

    hot = flame_of(("app", [0, 1], 700), ("app", [0], 300), ("gone", [0], 40))
    cold = flame_of(("app", [0, 2], 3000), ("app", [0, 3, 4], 1001), ("app", [0], 1000))
    totals = processes(
        ("app", {"on_cpu": 1500, "blocked": 1500, "runnable": 10}),
        ("app", {"on_cpu": 7, "blocked": 900, "runnable": 7}),
        ("idle", {"blocked": 5000}),
    )
    answers = {**HEALTHY, "ListProcesses": totals}
    text, calls = by_turns([hot, cold], "--hot-cold", answers=answers)
    svg, _ = by_turns([hot, cold], "--hot-cold", "--format=svg", answers=answers)
    tree, _ = by_turns([hot, cold], "--hot-cold", "--format=d3", answers=answers)
    windows = {(c[1]["filter"]["since_us"], c[1]["filter"]["until_us"]) for c in calls}
    assert len(windows) == 1 and [c[1].get("metric") for c in calls] == ["on_cpu", "off_cpu", None]
    sums = {}
    for line in text.splitlines():
        names, value = line.rsplit(" ", 1)
        key = tuple(names.split(";")[:2])
        sums[key] = sums.get(key, 0) + int(value)
    assert sums == {
        ("app", "[on-CPU]"): 1507,
        ("app", "[off-CPU]"): 2417,
        ("idle", "[off-CPU]"): 5000,
        ("gone", "[on-CPU]"): 40,
    }, text
    assert "app;[on-CPU];[no_stack] 507\n" in text and "idle;[off-CPU];[no_stack] 5000\n" in text
    assert "app;[on-CPU];main;do_work(int) 700\n" in text
    note = "wall time as the kernel counted it: 5.51us without a stack, 2.58us too much by stacks, 40ns of processes not counted"
    assert note in [t.text for t in lint(svg.encode()).iter(SVG + "text")], svg[:3000]

    page = processes(*[("app", {"on_cpu": 1})] * 1000)
    pages = 9 * [{**page[0], "continues": True}] + page
    err = good("flame", "--hot-cold", answers={**answers, "ListProcesses": pages}).err
    assert "more than 10000 processes" in err and "a shorter window" in err, err

    def check(node, cold_):
        cold_ = cold_ or node["name"] == "[off-CPU]"
        assert node.get("cold", False) == cold_, node["name"]
        for child in node.get("children", []):
            check(child, cold_)

    check(json.loads(tree), False)
    # main of app, off and on; main of gone, on: the same function has one colour hot and another cold.
    colours = [g.find(SVG + "rect").get("fill") for g in lint(svg.encode()).iter(SVG + "g") if g.get("data-n") == "main"]
    assert len(colours) == 3 and colours[1] == colours[2] != colours[0], colours
    # Each shade is in the legend: hot ones, then cold ones.
    (legend,) = [g for g in lint(svg.encode()).iter(SVG + "g") if g.get("class") == "legend"]
    items = list(zip([t.text for t in legend.iter(SVG + "text")], [r.get("fill") for r in legend.iter(SVG + "rect")]))
    assert [name for name, _ in items] == [
        *("on-CPU:", "program", "unknown"),
        *("off-CPU:", "kernel", "library", "program", "unknown"),
    ], items
    assert len({colour for _, colour in items}) == len(items), items


@test
def files_are_whole_or_not_there():
    os.mkdir(path("whole"))
    target = write("whole/a.svg", "kept")
    folded = write("whole/b.folded", "kept")
    for answers in [[Close()], [flame(continues=True), Close()], [flame(stacks=[])]]:
        for name in (target, folded):
            done = run("flame", "-o", name, answers={"GetFlame": answers})
            assert done.returncode == 1 and done.err.startswith("stackctl: "), done.err
            assert open(name).read() == "kept" and sorted(os.listdir(path("whole"))) == ["a.svg", "b.folded"]
    os.umask(0o027)
    try:
        drawn("whole/a.svg")
    finally:
        os.umask(0o022)
    assert os.stat(target).st_mode & 0o777 == 0o640 and read("whole/a.svg").startswith(b"<?xml")
    assert sorted(os.listdir(path("whole"))) == ["a.svg", "b.folded"]
    good("flame", "--format=svg", "-o", "/dev/null")
    assert not os.path.isfile("/dev/null")
    for name, why in [("/dev/full", "No space left"), (path("whole"), "Is a directory"), (path("no/a"), "No such file")]:
        for format in ("svg", "pprof", "d3", "folded"):
            err = bad("flame", "--format", format, "-o", name)
            assert f"Can't write {name}: " in err and (why in err or format == "pprof"), err


@test
def faulty_files_are_told():
    for text, line, why in [
        ("a;b 1\nno value\n", 2, "does not end with a value"),
        ("a;b -1\n", 1, "does not end with a value"),
        ("a;b 1x\n", 1, "does not end with a value"),
        ("12\n", 1, "does not end with a value"),
        ("a;b 1 2\na;b 3\n", 2, "does not end with two values"),
        (b"a;b 1\n\0\0 2\n", 2, "not text"),
        (b"a;b 1\n" + b"x" * 2_000_000 + b" 1\n", 2, "longer than 1 MiB"),
    ]:
        err = bad("flame", write("bad.folded", text), server=False)
        assert f"bad.folded:{line}: no folded stack: " in err and why in err, (text[:20], err)
    assert "No such file" in bad("flame", path("nowhere"), server=False)
    assert "nothing to draw" in bad("flame", write("empty", "\n \n"), server=False)
    done = run("flame", write("odd.folded", b"p;a\xff\x1b 2.6\r\n\r\n;;x 1\nalone 5\n"), server=False)
    assert done.stdout == b"[unknown];[unknown];x 1\nalone 5\np;a\\xff\\x1b 3\n", done
    deep = run("flame", write("deep", "p;" + "f;" * 3000 + "x 1\n"), "--format=svg", server=False)
    assert deep.returncode == 0 and b"1 stacks cut at 1024 frames" in deep.stdout
    lint(deep.stdout)
    # Sums that saturate leave frames as wide as "all"; which is drawn even when there are too many of them.
    text = "".join(f"p;a{i} {2**63 - 1}\n" for i in range(20000))
    svg = lint(drawn_file("huge.svg", text))
    assert [f[0] for f in frames_of(svg)] == ["all"]
    assert "20001 frames too narrow to be shown" in [t.text for t in svg.iter(SVG + "text")]
    done = run("flame", write("huge", f"p;a {2**63 - 1}\np;b {2**63 - 1}\n"), "--format=d3", server=False)
    assert json.loads(done.stdout)["value"] == 2**63 - 1, done


@test
def long_files_tell_how_far_they_are():
    file = write("long", "a;b;c;d;e;f 1\n" * 10**6)
    out, status = in_terminal("flame", file, "-o", path("long.svg"))
    assert status == 0 and re.search(r"Reading: +\d+%\r", out), out[:200]
    assert by_name(lint(read("long.svg")))["f"][2] == 10**6
    assert run("flame", file, "-o", path("long.svg"), server=False).stderr == b""


@test
def endless_lines_take_no_memory():
    # Only the second of these three ever ends.
    for source, why in [("/dev/zero", "not text"), (write("long", "x" * (2**20 + 1)), "longer than 1 MiB")]:
        assert why in bad("flame", source, server=False)
    command = f"yes | tr -d '\\n' | {STACKCTL} flame /dev/stdin"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=TIMEOUT)
    assert done.returncode == 1 and b":1: no folded stack: the line is longer than 1 MiB" in done.stderr, done.stderr


if __name__ == "__main__":
    sys.exit(main())

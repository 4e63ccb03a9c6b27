#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line, the man page and the completions, the terminal."""
import os
import re
import subprocess
import sys

from fake_stackd import FakeStackd, HEALTHY, WINDOW, frame, many_pages, reply
from harness import ENVIRONMENT, SOCKET, SOURCE, STACKCTL, TIMEOUT, bad, good, in_terminal, main, run, test


# ---- the command line ----


@test
def usage_errors():
    def refused(*args):
        return bad(*args, server=False)

    assert 'Unknown verb "anomolies". Did you mean "anomalies"?' in refused("anomolies")
    assert 'Unknown verb "xyzzy". Try "stackctl --help"' in refused("xyzzy")
    assert '"stackctl top" does not take --follow' in refused("top", "-f")
    assert '"stackctl status" does not take --since' in refused("--since=10m")
    assert 'Too many arguments: "extra"' in refused("top", "extra")
    assert "is no stack" in refused("stacks", "12")
    assert "Unknown state" in refused("gate", "ajar")
    assert "--for needs" in refused("gate", "--for=5s")
    assert "does not take --for" in refused("gate", "auto", "--for=5s")
    assert "does not take --since" in refused("gate", "open", "--since=1h")
    assert "from 1 to 10000" in refused("top", "-n") and "from 1 to 10000" in refused("top", "-n", "10001") and "with --follow only" in refused(
        "anomalies", "-n0"
    )
    assert "does not take --metric" in refused("stacks", "00000000000000bb", "-m", "hits")
    assert "Unknown metric" in refused("top", "--metric=cpu") and "faults-minor" in refused(
        "top", "--metric=cpu"
    )
    assert "is no process id" in refused("top", "--pid=abc")
    assert 'Can\'t take "25:00" as --since: the hour must be from 0 to 23.' in refused(
        "anomalies", "--since", "25:00"
    )
    assert "ends before it begins" in refused("anomalies", "--since=10m", "--until=20m")
    assert 'Try "stackctl --help"' in refused("--frobnicate") and "unrecognized option" in refused(
        "--frobnicate"
    )
    assert "requires an argument" in refused("top", "--pid")
    assert "begins in the future" in refused("top", "--since", "+1h")


@test
def options_come_before_or_after():
    assert good("-n", "2", "top").calls == good("top", "-n", "2").calls
    assert good("--socket", SOCKET, "top", env={"STACKD_SOCKET": "/nowhere"}).out == good("top").out


@test
def help_and_version():
    for args in [["--help"], ["-h"], ["help"], ["top", "--help"]]:
        done = run(*args, server=False)
        assert (
            done.returncode == 0 and done.stdout.startswith(b"stackctl [OPTIONS...]") and done.stderr == b""
        )
        assert max(len(line) for line in done.stdout.decode().splitlines()) <= 90
    assert re.fullmatch(rb"stackctl \d+\.\d+\.\d+\n", run("--version", server=False).stdout)


# ---- what is written about it ----

OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*|-[a-zA-Z])(?![\w-])")
VERBS = ["status", "anomalies", "explain", "incidents", "clusters", "mute", "unmute", "label", "check", "flame", "heat", "top", "stacks", "missing-debug", "processes", "compare-perf", "leaks", "watch-memory", "unwatch-memory", "import", "imports", "gate"]


def source(path):
    with open(os.path.join(SOURCE, path)) as file:
        return file.read()


def options_in_help():
    text = run("--help", server=False).stdout.decode()
    return {
        option for line in text.splitlines() if line.startswith("  ") for option in OPTION.findall(line[:22])
    }


def options_that_work():
    """What getopt takes, by asking for each."""
    for option in sorted(options_in_help()):
        err = subprocess.run(
            [STACKCTL, option], capture_output=True, env=ENVIRONMENT, timeout=TIMEOUT
        ).stderr.decode()
        assert "unrecognized" not in err and "invalid option" not in err, (option, err)
        yield option


@test
def man_page_and_completions_know_every_option():
    known = set(options_that_work())
    assert len(known) > 30, known
    in_code = set(re.findall(r'^\t\{ "([a-z-]+)", \w+_argument', source("client/options.c"), re.M))
    assert {"--" + name for name in in_code} == {option for option in known if option.startswith("--")}
    man = source("docs/stackctl.1").replace("\\-", "-")
    described = {option for line in re.findall(r"^\.TP\n(.*)$", man, re.M) for option in OPTION.findall(line)}
    assert described == known, described ^ known
    bash, zsh = source("client/completion/stackctl"), source("client/completion/_stackctl")
    for option in known:
        pattern = rf"(?<![\w-]){option}(?![\w-])"
        assert re.search(pattern, zsh) or re.search(rf"[{{,]{option}\+?[,}}=]", zsh), ("zsh", option)
        assert not option.startswith("--") or re.search(pattern, bash), ("bash", option)
    for verb in VERBS:
        assert (
            re.search(rf"^(\.B|\.BR) {verb}\b", man, re.M)
            and f"\n  {verb}" in run("--help", server=False).stdout.decode()
        )
        assert f"'{verb}:" in zsh


@test
def man_page_has_no_faults():
    done = subprocess.run(
        ["man", "--warnings", "-l", os.path.join(SOURCE, "docs/stackctl.1")],
        capture_output=True,
        timeout=TIMEOUT,
        env={**ENVIRONMENT, "MANPAGER": "cat", "MANWIDTH": "100"},
    )
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    assert b"FOLDED STACKS" in done.stdout


def complete(*words):
    script = (
        'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _stackctl; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = [
        "bash",
        "--norc",
        "-c",
        script,
        os.path.join(SOURCE, "client/completion/stackctl"),
        "stackctl",
        *words,
    ]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, env=ENVIRONMENT)
    assert done.stderr == b"", done.stderr
    return done.stdout.decode().split()


@test
def bash_completes():
    assert complete("") == VERBS
    assert complete("a") == ["anomalies"]
    assert complete("gate", "") == ["open", "close", "auto"]
    assert complete("top", "--by") == ["--by"] and complete("flame", "--b") == []
    assert complete("top", "--by", "=", "s") == ["stack"] and complete("top", "--by", "=") == [
        "function",
        "stack",
    ]
    assert complete("flame", "-m", "faults") == ["faults-minor", "faults-major", "faults-file", "faults-anon"]
    assert (
        complete("status", "--json", "=", "") == ["pretty", "short", "off"]
        and complete("status", "--json", "") == []
    )
    assert str(os.getpid()) in complete("top", "--pid", str(os.getpid())[:1])
    assert complete("label", "7", "r") == ["real"]
    kinds = re.findall(r'"(\w+)"', re.search(r"kinds\[\] = \{(.*?)\}", source("client/verb_incidents.c"), re.S)[1])
    assert complete("label", "7", "real", "") == [kind.replace("_", "-") for kind in kinds] and len(kinds) > 10
    assert all(kind.replace("_", "-") in source("client/completion/_stackctl") for kind in kinds)


@test
def what_bash_completes_is_taken():
    for verb in VERBS:
        if verb == "compare-perf":
            continue  # it would record for as long as it does
        for option in complete(verb, "--"):
            err = subprocess.run(
                [STACKCTL, verb, option], capture_output=True, env=ENVIRONMENT, timeout=TIMEOUT
            ).stderr.decode()
            assert "does not take" not in err and "unrecognized" not in err, (verb, option, err)


# ---- the terminal ----


@test
def colour_only_on_a_terminal():
    for verb in ["status", "anomalies", "processes", "gate"]:
        assert "\x1b" not in good(verb).out
        assert "\x1b[0;" in in_terminal(verb, "--no-pager")[0]
        assert "\x1b" not in in_terminal(verb, "--no-pager", env={"NO_COLOR": "1"})[0]
        assert "\x1b" not in in_terminal(verb, "--no-pager", env={"TERM": "dumb"})[0]
        assert "\x1b" not in in_terminal(verb, "--no-pager", env={"SYSTEMD_COLORS": "0"})[0]
        assert "\x1b[0;" in good(verb, env={"SYSTEMD_COLORS": "1"}).out
        assert "\x1b[0;" in in_terminal(verb, "--no-pager", env={"SYSTEMD_COLORS": "1", "NO_COLOR": "1"})[0]


@test
def pager_only_on_a_terminal():
    paged = {"SYSTEMD_PAGER": "sed s/^/PAGED:/", "SYSTEMD_PAGERSECURE": "0"}
    for args in [
        ["top", "-b"],
        ["status"],
        ["--help"],
        ["flame"],
        ["stacks", "00000000000000bb"],
        ["gate"],
        ["anomalies", "--json=short"],
    ]:
        text, status = in_terminal(*args, env=paged)
        assert status == 0 and all(line.startswith("PAGED:") for line in text.splitlines()), (args, text)
        assert "PAGED" not in in_terminal(*args, "--no-pager", env=paged)[0]
        assert "PAGED" not in good(*args, env=paged).out
    assert "PAGED" in in_terminal("top", "-b", env={"PAGER": "sed s/^/PAGED:/", "SYSTEMD_PAGERSECURE": "0"})[0]
    assert "PAGED" not in in_terminal("top", "-b", env={**paged, "SYSTEMD_PAGER": "cat"})[0]
    assert "PAGED" not in in_terminal("top", "-b", env={"PAGER": "sed s/^/PAGED:/", "SYSTEMD_PAGER": ""})[0]
    options = in_terminal(
        "top",
        "-b",
        env={
            "SYSTEMD_PAGER": 'sh -c "cat >/dev/null; echo L=$LESS S=$LESSSECURE"',
            "SYSTEMD_PAGERSECURE": "1",
        },
    )[0]
    assert "L=FRSXMK S=1" in options, options
    assert (
        "No such file" in in_terminal("--socket=/nowhere", "top", "-b", env=paged)[0]
        and "PAGED" not in in_terminal("--socket=/nowhere", "top", "-b", env=paged)[0]
    )


@test
def pager_that_is_left_early():
    text, status = in_terminal(
        "flame",
        env={"SYSTEMD_PAGER": "head -1", "SYSTEMD_PAGERSECURE": "0"},
        answers={"GetFlame": many_pages()},
    )
    assert status == 0 and text.count("\n") == 1, (status, text[:200])


@test
def rows_fit_the_terminal():
    for columns in [60, 80, 120]:
        rows = [{"stack": "", "frame": frame("f" * 300, "o" * 90), "frames": [], "self": 1, "total": 1}]
        answers = {"GetTop": [reply(metric="on_cpu", window=WINDOW, total=1, rows=rows)]}
        text = in_terminal("top", "-b", "--no-pager", env={"NO_COLOR": "1"}, columns=columns, answers=answers)[0]
        assert max(len(line) for line in text.splitlines()) == columns, text
        assert (
            "f" * 300
            in in_terminal(
                "top", "-b", "--no-pager", "--full", env={"NO_COLOR": "1"}, columns=columns, answers=answers
            )[0]
        )
        assert "f" * 300 in good("top", answers=answers).out


@test
def closed_pipe_is_no_failure():
    for verb in ["flame", "flame --json", "top", "status", "--help"]:
        with FakeStackd(SOCKET, {**HEALTHY, "GetFlame": many_pages()}):
            done = subprocess.run(
                ["bash", "-c", f'"$0" {verb} | head -1 >/dev/null; echo "${{PIPESTATUS[0]}}"', STACKCTL],
                capture_output=True,
                timeout=TIMEOUT,
                env=ENVIRONMENT,
            )
        assert done.stdout == b"0\n" and done.stderr == b"", (verb, done)


@test
def full_disk_is_a_failure():
    with open("/dev/full", "wb") as full:
        for verb in ["top", "flame", "status"]:
            done = run(verb, stdout=full, stderr=subprocess.PIPE, capture_output=False)
            assert done.returncode == 1 and "No space left" in done.err, (verb, done)


if __name__ == "__main__":
    sys.exit(main())

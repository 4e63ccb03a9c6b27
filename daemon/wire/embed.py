#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes files as NUL-terminated C arrays: embed.py OUTPUT NAME FILE [NAME FILE ...]"""
import sys

output, rest = sys.argv[1], sys.argv[2:]
with open(output, "w") as out:
    out.write('#include "wire.h"\n')
    for name, path in zip(rest[::2], rest[1::2]):
        with open(path, "rb") as f:
            data = f.read() + b"\0"
        out.write(f"\nconst char {name}[] = {{")
        for i, byte in enumerate(data):
            out.write(("\n\t" if i % 16 == 0 else " ") + f"{byte if byte < 128 else byte - 256},")
        out.write("\n};\n")

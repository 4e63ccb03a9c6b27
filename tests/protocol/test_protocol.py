#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""test_protocol.py SERVER DESCRIPTION...: the API over its socket, every reply checked."""
import sys

import harness
import test_bad_input
import test_limits
import test_methods
import test_users
from varlink import Client, Description

harness.Server.program = sys.argv[1]
for path in sys.argv[2:]:
    with open(path) as f:
        text = f.read()
    description = Description(text)
    Client.descriptions[description.name] = description
    test_methods.TEXTS[description.name] = text


# What we have no way to provoke: a method that is described but missing, and memory running out.
NOT_PROVOKED = {
    "org.varlink.service.MethodNotImplemented",
    "org.varlink.service.PermissionDenied",
    "org.stackd.Failed",
}


@harness.test
def every_method_and_error_was_seen():
    for name, d in Client.descriptions.items():
        missing = {f"{name}.{m}" for m in d.methods} - Client.seen_methods
        harness.equal(missing, set(), "methods that never answered")
        missing = {f"{name}.{e}" for e in d.errors} - Client.seen_errors - NOT_PROVOKED
        harness.equal(missing, set(), "errors that never came")


harness.run_all()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/openapi.yaml against a running server: schemathesis makes requests after the description and holds statuses,
content types and bodies of the answers against it.

usage: VENV/bin/python openapi_schemathesis.py -m MODEL --adapter DIR [--examples 200]        needs: pip install schemathesis
"""
import pathlib
import subprocess
import sys

from outside_case import ROOT, parse


def main():
    args, server_case = parse(__doc__, examples=100)
    server = server_case.Server(args.model, "--adapter", args.adapter, "--context", "256", "--default-max-tokens", "4")
    # Beyond what a schema can say: ids of this model's vocabulary, its context, its largest budget. Such requests fit the
    # description and are refused all the same, so acceptance of all that fits it is not asked for.
    words = [str(pathlib.Path(sys.executable).parent / "schemathesis"), "run", str(ROOT / "docs" / "openapi.yaml"), "--url",
             f"http://127.0.0.1:{server.port}", "--max-examples", str(args.examples), "--seed", "1", "--checks", "all",
             "--exclude-checks", "positive_data_acceptance", "--request-timeout", "60"]
    try:
        status = subprocess.run(words, check=False).returncode
        alive = server.process.poll() is None and server.request("GET", "/health").status == 200
    finally:
        server.stop()
    raise SystemExit(status if alive else "the server did not live through it")


if __name__ == "__main__":
    main()

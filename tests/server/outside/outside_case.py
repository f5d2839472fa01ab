# SPDX-License-Identifier: Apache-2.0
"""What the checks with programs from elsewhere share: their command line, the repository's own test server, requests."""
import argparse
import http.client
import json
import os
import pathlib
import socket
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "server"))


def parse(doc, **options):
    """The arguments, and the module server_case, which starts the program they name."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateskip", default=str(ROOT / "build" / "release" / "apps" / "gateskip"))
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--adapter", required=True)
    for option, default in options.items():
        parser.add_argument(f"--{option.replace('_', '-')}", type=type(default), default=default)
    args = parser.parse_args()
    os.environ["GATESKIP_BINARY"] = args.gateskip
    import server_case
    return args, server_case


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def request(port, method, path, body=None, headers=None):
    """An answer; status 0 when there is none."""
    from server_case import Answer
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers or {})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, {}, str(error).encode())
    finally:
        connection.close()

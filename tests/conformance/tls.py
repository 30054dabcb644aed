"""Looks at the port of a real node from outside: which TLS does it offer, and to whom?

    python tls.py PROGRAM [PYTHON]     (called by `tls`; PYTHON is one that has sslyze)

A primary on the loopback, and beside it a server of openssl that offers what the node must not: TLS 1.2, tickets and early
data. Whatever is refused by the node is first taken from that server with the same command, so that a refusal is the node's
doing and not the tool's. One line per fact; the exit code is 0 only when every one is `ok`.
"""

import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

# Longer than anything here takes on a busy machine.
LIMIT = 30.0
# RFC 8446 §B.4: all suites of TLS 1.3 are AEAD; these are the ones that are meant.
SUITES = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}

failed = []


def fact(words, holds, seen=""):
    """Says whether something is as it must be."""
    print(f"{'ok  ' if holds else 'FAIL'} {words}", flush=True)
    if not holds:
        failed.append(words)
        print("".join(f"     | {line}\n" for line in str(seen).splitlines()[-25:]), end="", flush=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


def answers(port, process):
    """Waits until a server takes connections."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=LIMIT).close()
            return
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"FAIL nothing answers on port {port}")


def start_node(program, folder):
    port = free_port()
    key = folder / "pair.key"
    subprocess.run([program, "key", "generate", "--out", key], check=True, capture_output=True)
    settings = folder / "onduty.toml"
    settings.write_text(
        f"""
[node]
name = "node-a"
listen = "127.0.0.1:{port}"
data_dir = "{folder}/data"
[redundancy]
mode = "primary"
profile = "fast"
key_file = "{key}"
"""
    )
    with open(folder / "log", "wb") as log:
        node = subprocess.Popen(
            [program, "up", "--config", settings], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    answers(port, node)
    return port, node


def start_reference(folder):
    """A server that offers what the node must not."""
    port = free_port()
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    made += ["-subj", "/CN=reference", "-keyout", folder / "reference.key", "-out", folder / "reference.pem"]
    subprocess.run(made, check=True, capture_output=True)
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-early_data", "-alpn", "h2,http/1.1"]
    command += ["-key", folder / "reference.key", "-cert", folder / "reference.pem"]
    quiet = subprocess.DEVNULL
    # The end of its input would end it.
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
    answers(port, server)
    return port, server


def client(port, *arguments):
    """What `openssl s_client` says. It reads until the server hangs up or a second has passed."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        # Tickets come after the handshake: its input stays open for a moment.
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        pass
    said, _ = process.communicate(timeout=LIMIT)
    return said.decode(errors="replace")


def with_openssl(node, reference, folder):
    good = client(node, "-tls1_3", "-alpn", "h2")
    fact("openssl: TLS 1.3 with ALPN h2 is taken", "New, TLSv1.3" in good and "ALPN protocol: h2" in good, good)
    fact("openssl: no compression", "Compression: NONE" in good, good)
    # Since TLS 1.3 has no renegotiation at all, its answer is always this one.
    fact("openssl: no renegotiation", "Secure Renegotiation IS NOT supported" in good, good)
    fact("openssl: no certificate is asked of a client", "No client certificate CA names sent" in good, good)

    alert = re.compile(r"SSL alert number (40|70)\b")
    for name, option in (("1.2", "-tls1_2"), ("1.1", "-tls1_1"), ("1.0", "-tls1")):
        # A client of its own accord refuses old versions on a high level of security; that would prove nothing.
        arguments = (option, "-cipher", "DEFAULT@SECLEVEL=0", "-alpn", "h2")
        said = client(node, *arguments)
        refused = alert.search(said) and "Cipher is (NONE)" in said
        fact(f"openssl: TLS {name} is refused by an alert", refused, said)
    control = client(reference, "-tls1_2", "-alpn", "h2")
    fact("control: the same client speaks TLS 1.2 with a server that does", "New, TLSv1.2" in control, control)

    for suite in sorted(SUITES):
        said = client(node, "-tls1_3", "-alpn", "h2", "-ciphersuites", suite)
        fact(f"openssl: {suite} is taken", f"Cipher is {suite}" in said and "ALPN protocol: h2" in said, said)
    for suite in ("TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"):
        said = client(node, "-tls1_3", "-alpn", "h2", "-ciphersuites", suite)
        fact(f"openssl: {suite} is refused", alert.search(said) and "BEGIN CERTIFICATE" not in said, said)

    said = client(node, "-tls1_3", "-alpn", "http/1.1")
    fact("openssl: ALPN http/1.1 is refused by an alert", "SSL alert number 120" in said, said)
    said = client(node, "-tls1_3")
    closed = "unexpected eof" in said or "closed" in said.splitlines()[-1]
    fact("openssl: without ALPN it hangs up and says nothing", closed and "No ALPN negotiated" in said, said)

    resumption(node, reference, folder)
    renegotiation(node)


def resumption(node, reference, folder):
    own, other = folder / "own.session", folder / "other.session"
    early = folder / "early"
    early.write_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    h2 = ("-tls1_3", "-alpn", "h2")
    said = client(reference, *h2, "-sess_out", other)
    fact("control: the same client gets a ticket from a server that gives them", other.exists(), said)
    said = client(reference, *h2, "-sess_in", other, "-early_data", early)
    taken = "Reused, TLSv1.3" in said and "Early data was accepted" in said
    fact("control: and resumes with it, with early data", taken, said)

    said = client(node, *h2, "-sess_out", own)
    none = "ALPN protocol: h2" in said and "New Session Ticket arrived" not in said and not own.exists()
    fact("openssl: no ticket, so there is nothing to resume", none, said)
    again = client(node, *h2, "-sess_out", own)
    fact("openssl: the second connection is a full handshake", "New, TLSv1.3" in again and "Reused" not in again, again)

    # A session of somebody else's: a PSK is offered, and early data with it.
    client(reference, *h2, "-sess_out", other)
    said = client(node, *h2, "-sess_in", other)
    full = "New, TLSv1.3" in said and "Reused" not in said and "BEGIN CERTIFICATE" in said
    fact("openssl: a PSK that is offered is not taken: full handshake with a certificate", full, said)
    # Another one: a session is good for early data once.
    client(reference, *h2, "-sess_out", other)
    said = client(node, *h2, "-sess_in", other, "-early_data", early)
    fact("openssl: early data (0-RTT) is rejected", "Early data was rejected" in said, said)
    said = client(node, *h2, "-psk_identity", "onduty", "-psk", "00" * 32)
    fact("openssl: an external PSK is not taken", "New, TLSv1.3" in said and "BEGIN CERTIFICATE" in said, said)


def renegotiation(node):
    """`R` on a line of its own asks for one."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{node}", "-tls1_3", "-alpn", "h2"]
    done = subprocess.run(command, input=b"R\n", capture_output=True, timeout=LIMIT, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    refused = "RENEGOTIATING" in said and "error:" in said
    fact("openssl: a renegotiation cannot be had", refused, said)


def with_sslyze(python, node, folder):
    found = folder / "sslyze.json"
    # Without --early_data: it asks without ALPN, is hung up on, and takes that for a fault of its own.
    scans = "--certinfo --sslv2 --sslv3 --tlsv1 --tlsv1_1 --tlsv1_2 --tlsv1_3 --resum --reneg --heartbleed --openssl_ccs "
    scans += "--compression --fallback --robot --elliptic_curves"
    command = [python, "-m", "sslyze", "--json_out", found, *scans.split(), f"127.0.0.1:{node}"]
    done = subprocess.run(command, capture_output=True, timeout=4 * LIMIT, check=False)
    if not found.exists():
        fact("sslyze: it scans", False, (done.stdout + done.stderr).decode(errors="replace"))
        return
    scan = json.loads(found.read_text())["server_scan_results"][0]
    fact("sslyze: it scans", scan["scan_status"] == "COMPLETED", scan)
    result = scan["scan_result"]

    def of(name):
        part = result[name]
        done = part["status"] == "COMPLETED" and part["result"] is not None
        if not done:
            fact(f"sslyze: {name} was looked at", False, part)
        return part["result"] if done else {}

    for name, version in (
        ("SSL 2", "ssl_2_0"),
        ("SSL 3", "ssl_3_0"),
        ("TLS 1.0", "tls_1_0"),
        ("TLS 1.1", "tls_1_1"),
        ("TLS 1.2", "tls_1_2"),
    ):
        suites = of(f"{version}_cipher_suites")
        tried = len(suites.get("rejected_cipher_suites", []))
        none = tried > 0 and not suites["accepted_cipher_suites"] and not suites["is_tls_version_supported"]
        fact(f"sslyze: {name} is refused with each of {tried} suites", none, suites)
    suites = of("tls_1_3_cipher_suites")
    taken = {suite["cipher_suite"]["name"] for suite in suites.get("accepted_cipher_suites", [])}
    fact(f"sslyze: TLS 1.3 with {', '.join(sorted(taken))} and nothing else", taken == SUITES, suites)
    only = "SERVER_IS_TLS_1_3_ONLY"
    resumed = of("session_resumption")
    for kind in ("session_id", "tls_ticket"):
        fact(f"sslyze: no resumption by {kind}", resumed.get(f"{kind}_resumption_result") == only, resumed)
    for words, name, field in (
        ("no compression", "tls_compression", "supports_compression"),
        ("not open to Heartbleed", "heartbleed", "is_vulnerable_to_heartbleed"),
        ("not open to the injection of ChangeCipherSpec", "openssl_ccs_injection", "is_vulnerable_to_ccs_injection"),
        ("no renegotiation by clients", "session_renegotiation", "is_vulnerable_to_client_renegotiation_dos"),
    ):
        answer = of(name)
        fact(f"sslyze: {words}", answer.get(field) is False, answer)
    robot = of("robot")
    fact("sslyze: not open to ROBOT", robot.get("robot_result") == "NOT_VULNERABLE_RSA_NOT_SUPPORTED", robot)
    curves = {curve["name"] for curve in of("elliptic_curves").get("supported_curves") or []}
    known = {"X25519", "secp256r1", "secp384r1"}
    fact(f"sslyze: key exchange over {', '.join(sorted(curves))}", curves and curves <= known, curves)
    certificates = of("certificate_info").get("certificate_deployments", [])
    fact("sslyze: one certificate, whoever asks", len(certificates) == 1, certificates)


def main():
    program, sslyze = sys.argv[1], sys.argv[2:]
    with tempfile.TemporaryDirectory(prefix="onduty-tls-") as name:
        folder = pathlib.Path(name)
        started = []
        try:
            node, process = start_node(program, folder)
            started.append(process)
            reference, process = start_reference(folder)
            started.append(process)
            with_openssl(node, reference, folder)
            for python in sslyze:
                with_sslyze(python, node, folder)
            fact("the node has lived through it", started[0].poll() is None, (folder / "log").read_text())
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(LIMIT)
    print(f"TLS from outside: {'FAILED' if failed else 'passed'}, {len(failed)} failed")
    sys.exit(1 if failed else 0)


main()

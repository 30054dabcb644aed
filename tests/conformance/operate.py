"""Operates a real pair with nothing but what is generated from proto/: is the contract enough for another language?

    python operate.py PROGRAM       (called by `run`, which makes the environment and the generated code)

Two nodes on the loopback with a key and a plugin that takes a second to stop. Each story is a function; they run in
order, because they move one and the same pair. What is asserted is what the comments of proto/ promise. Every call has
a deadline, every wait a limit. The last line is "N passed, N failed"; the exit code is 0 only when all passed.
"""

import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import grpc
from google.protobuf import descriptor_pool, duration_pb2, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import proto_reflection_descriptor_database

from onduty.events.v1 import events_pb2, events_pb2_grpc
from onduty.failover.v1 import failover_pb2, failover_pb2_grpc
from onduty.heartbeat.v1 import heartbeat_pb2, heartbeat_pb2_grpc
from onduty.trust.v1 import trust_pb2, trust_pb2_grpc
from onduty.types.v1 import types_pb2

# Longer than anything here takes on a busy machine.
LIMIT = 30.0
# How long the plugin takes to stop, and with it every move of the duty.
STOP_TAKES = 1.5


class Recorder(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Notes which methods were called."""

    def __init__(self):
        self.called = set()

    def intercept_unary_unary(self, continuation, details, request):
        self.called.add(details.method)
        return continuation(details, request)

    def intercept_unary_stream(self, continuation, details, request):
        self.called.add(details.method)
        return continuation(details, request)


class Node:
    """One node: its process, and the clients of its socket."""

    def __init__(self, program, folder, name, mode, port, secondary, recorder):
        self.name = name
        self.folder = folder / name
        self.folder.mkdir()
        self.settings = self.folder / "onduty.toml"
        self.settings.write_text(
            f"""
[node]
name = "{name}"
listen = "127.0.0.1:{port}"
data_dir = "{self.folder}/data"
[redundancy]
mode = "{mode}"
profile = "fast"
key_file = "{folder}/pair.key"
{secondary}
[redundancy.failback]
mode = "manual"
[plugins.slow]
command = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]
ready = {{ stays_up = "50ms" }}
stop = {{ grace = "{STOP_TAKES}s" }}
"""
        )
        self.program = program
        self.log = open(self.folder / "log", "w", encoding="utf-8")
        self.process = None
        # The authority of a unix socket means nothing, but HTTP asks for one, and not for a path.
        options = [("grpc.default_authority", "localhost")]
        self.plain = grpc.insecure_channel(f"unix:{self.folder}/data/onduty.sock", options)
        self.channel = grpc.intercept_channel(self.plain, recorder)
        self.failover = failover_pb2_grpc.FailoverServiceStub(self.channel)
        self.events = events_pb2_grpc.EventsServiceStub(self.channel)
        self.test = heartbeat_pb2_grpc.ConnectionTestServiceStub(self.channel)
        self.certificates = trust_pb2_grpc.CertificateServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def start(self):
        self.process = subprocess.Popen(
            [self.program, "up", "--config", self.settings],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )

    def status(self):
        request = failover_pb2.GetStatusRequest()
        return self.failover.GetStatus(request, timeout=LIMIT, wait_for_ready=True).status

    def state(self):
        return self.status().node.state

    def end(self):
        self.plain.close()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


class Pair:
    """Both nodes."""

    def __init__(self, program, folder):
        self.recorder = Recorder()
        subprocess.run([program, "key", "generate", "--out", folder / "pair.key"], check=True, capture_output=True)
        ports = free_ports(2)
        secondary = f'[redundancy.secondary]\naddress = "https://127.0.0.1:{ports[0]}"\ntrust = "all"\n'
        self.a = Node(program, folder, "node-a", "primary", ports[0], "", self.recorder)
        self.b = Node(program, folder, "node-b", "secondary", ports[1], secondary, self.recorder)

    def end(self):
        self.a.end()
        self.b.end()


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def until(what, probe):
    """Looks until `probe` finds something."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        found = probe()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


def refused(code, call):
    """Asserts that a call ends with this code and a sentence, and gives the sentence."""
    try:
        answer = call()
        if hasattr(answer, "__next__"):
            answer = list(answer)
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()} instead of {code}: {error.details()}"
        assert error.details(), "a refusal without a sentence"
        return error.details()
    raise AssertionError(f"not refused: {answer}")


def switch(node, request_id="", check_only=False, timeout=LIMIT):
    request = failover_pb2.SwitchoverRequest(request_id=request_id, check_only=check_only)
    return node.failover.Switchover(request, timeout=timeout)


# ---------------------------------------------------------------------------------------------- stories


def the_pair_becomes_redundant(pair):
    # One after the other: with manual hand-back whoever is first keeps the duty.
    pair.a.start()
    until("the primary's duty", lambda: pair.a.state() == types_pb2.NODE_STATE_ACTIVE)
    pair.b.start()

    def ready():
        status = pair.a.status()
        return status.redundancy == failover_pb2.REDUNDANCY_WORD_READY and status

    status = until("redundancy", ready)
    assert status.node.state == types_pb2.NODE_STATE_ACTIVE
    assert status.node.identity.name == "node-a" and len(status.node.identity.node_id) == 16
    assert status.node.HasField("epoch") and status.node.epoch % 2 == 0, "the primary's epochs are even"
    assert status.peer.link == failover_pb2.LINK_VERDICT_ESTABLISHED
    assert status.peer.report.state == types_pb2.NODE_STATE_STANDBY
    assert [(plugin.name, plugin.state) for plugin in status.plugins] == [("slow", "ready")]
    assert status.HasField("at") and status.HasField("started") and status.HasField("state_since")
    standby = pair.b.status()
    [key], [same] = status.keys, standby.keys
    assert key.slot == failover_pb2.KEY_SLOT_CURRENT and key.in_use and not key.droppable and key.HasField("since")
    assert len(key.fingerprint) == 8 and key.fingerprint == same.fingerprint and key.file.endswith("pair.key")
    assert not standby.node.HasField("epoch"), "unset: it has no duty"
    assert standby.peer.HasField("round_trip"), "the secondary measures it"


def reflection_and_health_need_no_files_of_ours(pair):
    database = proto_reflection_descriptor_database.ProtoReflectionDescriptorDatabase(pair.b.plain)
    names = set(database.get_services())
    ours = {name for name in names if name.startswith("onduty.")}
    wanted = {
        "onduty.failover.v1.FailoverService",
        "onduty.events.v1.EventsService",
        "onduty.heartbeat.v1.ConnectionTestService",
    }
    assert wanted <= ours, names
    assert "onduty.heartbeat.v1.HeartbeatService" not in names, "that one is on the port"
    pool = descriptor_pool.DescriptorPool(database)
    for name in ours:
        pool.FindServiceByName(name)
        check = health_pb2.HealthCheckRequest(service=name)
        answer = pair.b.health.Check(check, timeout=LIMIT)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, name
    # A call made of nothing but what reflection says.
    method = pool.FindServiceByName("onduty.failover.v1.FailoverService").FindMethodByName("GetStatus")
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    path = f"/{method.containing_service.full_name}/{method.name}"
    call = pair.b.plain.unary_unary(path, request.SerializeToString, response.FromString)
    assert call(request(), timeout=LIMIT).status.node.identity.name == "node-b"
    unknown = health_pb2.HealthCheckRequest(service="onduty.none.v1.NoService")
    refused(grpc.StatusCode.NOT_FOUND, lambda: pair.b.health.Check(unknown, timeout=LIMIT))
    pair.reflected = {
        f"/{service}/{method.name}" for service in ours for method in pool.FindServiceByName(service).methods
    }


def what_breaks_a_rule_is_an_invalid_argument(pair):
    node, invalid = pair.a, grpc.StatusCode.INVALID_ARGUMENT

    def maintenance(reason, **span):
        duration = duration_pb2.Duration(**span) if span else None
        request = failover_pb2.SetMaintenanceRequest(reason=reason, duration=duration)
        return lambda: node.failover.SetMaintenance(request, timeout=LIMIT)

    for wrong in [
        maintenance("", seconds=60),
        maintenance("   ", seconds=60),
        maintenance("x" * 1025, seconds=60),
        maintenance("cables"),
        maintenance("cables", seconds=0),
        maintenance("cables", seconds=-1),
        maintenance("cables", seconds=31 * 86400 + 1),
    ]:
        refused(invalid, wrong)
    assert "request_id" in refused(invalid, lambda: switch(node, "x" * 65))
    take_over = failover_pb2.TakeOverRequest(request_id="x" * 65)
    assert "request_id" in refused(invalid, lambda: node.failover.TakeOver(take_over, timeout=LIMIT))
    short = failover_pb2.WatchStatusRequest(heartbeat=duration_pb2.Duration(nanos=99_000_000))
    assert "heartbeat" in refused(invalid, lambda: node.failover.WatchStatus(short, timeout=LIMIT))
    many = events_pb2.ListEventsRequest(limit=10_001)
    refused(invalid, lambda: node.events.ListEvents(many, timeout=LIMIT))
    backlog = events_pb2.WatchEventsRequest(backlog=10_001)
    refused(invalid, lambda: node.events.WatchEvents(backlog, timeout=LIMIT))
    refused(grpc.StatusCode.OUT_OF_RANGE, maintenance("x" * 17 * 1024, seconds=60))
    nothing = node.plain.unary_unary("/onduty.failover.v1.FailoverService/Nothing")
    try:
        nothing(b"", timeout=LIMIT)
        raise AssertionError("an unknown method was answered")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


def what_cannot_be_done_now_is_a_failed_precondition(pair):
    failed = grpc.StatusCode.FAILED_PRECONDITION
    take_over = failover_pb2.TakeOverRequest()
    for node in (pair.a, pair.b):
        refused(failed, lambda: node.failover.TakeOver(take_over, timeout=LIMIT))
    test = heartbeat_pb2.TestRequest()
    refused(failed, lambda: pair.a.test.Test(test, timeout=LIMIT))


def the_mode_is_told_and_not_changed_against_the_rules(pair):
    for node, mode in ((pair.a, types_pb2.MODE_PRIMARY), (pair.b, types_pb2.MODE_SECONDARY)):
        told = node.failover.GetMode(failover_pb2.GetModeRequest(), timeout=LIMIT)
        assert (told.mode, told.locked_by) == (mode, ""), told
        assert str(node.settings) in told.source, told

        def set_mode(wanted, request_id=""):
            request = failover_pb2.SetModeRequest(request_id=request_id, mode=wanted)
            return node.failover.SetMode(request, timeout=LIMIT)

        same = set_mode(mode)
        assert same.sentence and not same.request_id and not same.starts_anew, same
        unset = refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: set_mode(types_pb2.MODE_UNSPECIFIED))
        assert "mode" in unset, unset
        refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: set_mode(mode, "x" * 65))
    # Never two secondaries: the other node has to become the primary first. And the settings of this one lack an address.
    before = pair.a.status().node.identity.instance_id
    secondary = types_pb2.MODE_SECONDARY
    request = failover_pb2.SetModeRequest(mode=secondary, force=True)
    why = refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: pair.a.failover.SetMode(request, timeout=LIMIT))
    assert "secondary" in why, why
    status = pair.a.status()
    assert status.node.identity.instance_id == before and status.node.mode == types_pb2.MODE_PRIMARY, status


def the_link_is_tested_step_by_step(pair):
    steps = list(pair.b.test.Test(heartbeat_pb2.TestRequest(), timeout=LIMIT))
    names = [step.step for step in steps]
    assert names[0] == "address" and {"tcp", "tls", "trust", "key", "role"} <= set(names), names
    good = {heartbeat_pb2.TestResponse.VERDICT_PASSED, heartbeat_pb2.TestResponse.VERDICT_WARNED}
    assert all(step.verdict in good and step.found for step in steps), steps


def a_certificate_is_imported_and_taken_back(pair):
    a, b = pair.a.certificates, pair.b.certificates
    own = a.ExportCertificate(trust_pb2.ExportCertificateRequest(selector="own"), timeout=LIMIT).pem
    assert own.startswith("-----BEGIN CERTIFICATE-----") and "PRIVATE" not in own, own
    b.ImportCertificate(trust_pb2.ImportCertificateRequest(content=own.encode()), timeout=LIMIT)
    store = trust_pb2.CERTIFICATE_STORE_TRUSTED
    listed = b.ListCertificates(trust_pb2.ListCertificatesRequest(store=store), timeout=LIMIT).certificates
    selector = listed[0].fingerprint.hex()
    found = b.GetCertificate(trust_pb2.GetCertificateRequest(selector=selector), timeout=LIMIT)
    assert found.certificates, found
    b.RejectCertificate(trust_pb2.RejectCertificateRequest(selector=selector), timeout=LIMIT)
    b.TrustCertificate(trust_pb2.TrustCertificateRequest(selector=selector), timeout=LIMIT)
    b.DeleteCertificate(trust_pb2.DeleteCertificateRequest(selector=selector), timeout=LIMIT)
    assert not b.ListCertificates(trust_pb2.ListCertificatesRequest(store=store), timeout=LIMIT).certificates
    get = trust_pb2.GetCertificateRequest
    refused(grpc.StatusCode.NOT_FOUND, lambda: b.GetCertificate(get(selector="00" * 32), timeout=LIMIT))
    refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: b.GetCertificate(get(selector="a"), timeout=LIMIT))
    key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    imported = trust_pb2.ImportCertificateRequest(content=key)
    refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: b.ImportCertificate(imported, timeout=LIMIT))
    shown = a.GetCertificate(get(selector="own"), timeout=LIMIT).certificates[0].fingerprint
    prepared = a.RenewCertificate(trust_pb2.RenewCertificateRequest(), timeout=LIMIT)
    assert prepared.changed and prepared.certificate.fingerprint != shown, prepared
    refused(
        grpc.StatusCode.FAILED_PRECONDITION,
        lambda: a.RequestCertificate(trust_pb2.RequestCertificateRequest(), timeout=LIMIT),
    )
    renewed = a.RenewCertificate(trust_pb2.RenewCertificateRequest(now=True), timeout=LIMIT)
    assert renewed.certificate.fingerprint == prepared.certificate.fingerprint, renewed
    request = a.RequestCertificate(trust_pb2.RequestCertificateRequest(), timeout=LIMIT).pem
    assert request.startswith("-----BEGIN CERTIFICATE REQUEST-----") and "PRIVATE" not in request, request
    stranger = trust_pb2.InstallCertificateRequest(content=own.encode())
    refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: a.InstallCertificate(stranger, timeout=LIMIT))
    own_one = trust_pb2.DeleteCertificateRequest(selector="own")
    refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: b.DeleteCertificate(own_one, timeout=LIMIT))


def a_switchover_there_and_back_is_seen_by_a_watcher(pair):
    for giver, taker in ((pair.a, pair.b), (pair.b, pair.a)):
        check = switch(giver, check_only=True)
        assert check.active == giver.name and not check.HasField("gap"), check
        assert taker.state() == types_pb2.NODE_STATE_STANDBY, "a check moves nothing"
        seen = queue.Queue()
        request = failover_pb2.WatchStatusRequest(heartbeat=duration_pb2.Duration(nanos=200_000_000))
        watch = giver.failover.WatchStatus(request, timeout=LIMIT)
        first = next(watch).status
        assert first.node.state == types_pb2.NODE_STATE_ACTIVE

        def read():
            try:
                for answer in watch:
                    seen.put((answer.status.node.state, answer.status.peer.report.state))
            except grpc.RpcError as error:
                seen.put(error.code())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        answer = switch(giver)
        assert answer.active == taker.name and answer.sentence and answer.request_id, answer
        told, story = None, []
        end = (types_pb2.NODE_STATE_STANDBY, types_pb2.NODE_STATE_ACTIVE)
        while told != end:
            told = seen.get(timeout=LIMIT)
            if not story or story[-1] != told:
                story.append(told)
        own = list(dict.fromkeys(own for own, _ in story))
        assert types_pb2.NODE_STATE_YIELDING in own, story
        seen.queue.clear()
        assert seen.get(timeout=LIMIT) == end, "and at least once in `heartbeat`, whether or not anything changes"
        watch.cancel()
        reader.join(LIMIT)
        assert taker.state() == types_pb2.NODE_STATE_ACTIVE and giver.state() == types_pb2.NODE_STATE_STANDBY


def a_deadline_ends_the_call_and_not_the_move(pair):
    begun = time.monotonic()
    try:
        switch(pair.a, "the-move", timeout=0.3)
        raise AssertionError("it cannot be over yet: a plugin takes longer to stop")
    except grpc.RpcError as error:
        # The server's own end of the call may be here first; gRPC libraries say either.
        assert error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED), error
    assert time.monotonic() - begun < STOP_TAKES, "the deadline was not honoured"
    blocked = refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: switch(pair.a, "another"))
    assert blocked, blocked
    joined = switch(pair.a, "the-move")
    assert (joined.request_id, joined.active) == ("the-move", "node-b"), joined
    # The same id again, when the move is over: answered again, at once, and nothing moves a second time.
    epoch = pair.b.status().node.epoch
    begun = time.monotonic()
    again = switch(pair.a, "the-move", timeout=5)
    assert again.sentence == joined.sentence, (again, joined)
    assert time.monotonic() - begun < STOP_TAKES
    assert (pair.b.state(), pair.b.status().node.epoch) == (types_pb2.NODE_STATE_ACTIVE, epoch)
    back = switch(pair.b, "x" * 64)
    assert (back.request_id, back.active) == ("x" * 64, "node-a"), back


def maintenance_is_pair_wide_and_holds_the_duty(pair):
    day = duration_pb2.Duration(seconds=86400)
    set_ = failover_pb2.SetMaintenanceRequest(reason="new cables", duration=day)
    window = pair.a.failover.SetMaintenance(set_, timeout=LIMIT).maintenance.window
    assert window.reason == "new cables" and window.by
    assert abs(window.until_unix - time.time() - 86400) < 60
    until("maintenance on the peer", lambda: pair.b.status().node.maintenance.window.reason == "new cables")
    for node in (pair.a, pair.b):
        for check_only in (True, False):
            why = refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: switch(node, check_only=check_only))
            assert "maintenance" in why, why
    assert pair.a.state() == types_pb2.NODE_STATE_ACTIVE
    clear = failover_pb2.ClearMaintenanceRequest()
    for _ in range(2):  # the second time nothing is left to clear, and that is no error
        cleared = pair.b.failover.ClearMaintenance(clear, timeout=LIMIT).maintenance
        assert not cleared.HasField("window"), cleared
    until("its end on the peer", lambda: not pair.a.status().node.maintenance.HasField("window"))


def the_journal_has_it_all_in_order(pair):
    everything = events_pb2.ListEventsRequest(limit=10_000)
    events = pair.a.events.ListEvents(everything, timeout=LIMIT).events
    numbers = [event.number for event in events]
    assert numbers == list(range(1, len(events) + 1)), numbers
    codes = [event.code for event in events]
    for code in ("handover_done", "maintenance_set", "maintenance_cleared"):
        assert code in codes, codes
    assert any(event.code == "handover_done" and event.request_id == "the-move" for event in events)
    assert all(event.sentence and len(event.chain) == 32 and event.node == "node-a" for event in events)
    three = pair.a.events.ListEvents(events_pb2.ListEventsRequest(limit=3), timeout=LIMIT).events
    assert [event.number for event in three] == numbers[-3:]
    later = events_pb2.ListEventsRequest(after=numbers[-2])
    assert [event.number for event in pair.a.events.ListEvents(later, timeout=LIMIT).events] == numbers[-1:]
    assert len(pair.a.events.ListEvents(events_pb2.ListEventsRequest(), timeout=LIMIT).events) <= 50
    backlog = events_pb2.WatchEventsRequest(after=numbers[0], backlog=10_000)
    watch = pair.a.events.WatchEvents(backlog, timeout=LIMIT)
    old = [next(watch).event.number for _ in numbers[1:]]
    assert old == numbers[1:], old
    clear = failover_pb2.SetMaintenanceRequest(reason="one more", duration=duration_pb2.Duration(seconds=60))
    pair.a.failover.SetMaintenance(clear, timeout=LIMIT)
    new = next(watch).event
    assert (new.number, new.code) == (numbers[-1] + 1, "maintenance_set"), new
    watch.cancel()
    pair.a.failover.ClearMaintenance(failover_pb2.ClearMaintenanceRequest(), timeout=LIMIT)
    until("its end on the peer", lambda: not pair.b.status().node.maintenance.HasField("window"))


def a_stop_hands_over_and_ends_every_stream(pair):
    watch = pair.a.failover.WatchStatus(failover_pb2.WatchStatusRequest(), timeout=LIMIT)
    next(watch)
    health = pair.a.health.Watch(health_pb2.HealthCheckRequest(), timeout=LIMIT)
    assert next(health).status == health_pb2.HealthCheckResponse.SERVING
    begun = time.monotonic()
    answer = pair.a.failover.Stop(failover_pb2.StopRequest(), timeout=LIMIT)
    assert time.monotonic() - begun < STOP_TAKES, "it returns when the stop has begun"
    assert "node-a" in answer.sentence, answer
    assert pair.a.process.wait(LIMIT) == 0
    refused(grpc.StatusCode.UNAVAILABLE, lambda: watch)
    last = [told.status for told in health]
    assert last == [health_pb2.HealthCheckResponse.NOT_SERVING], last
    assert pair.b.state() == types_pb2.NODE_STATE_ACTIVE
    outages = [e.outage_ms for e in pair.b.events.ListEvents(events_pb2.ListEventsRequest(), timeout=LIMIT).events]
    assert any(outages), "the hand-over was measured"


def every_call_of_the_contract_was_made(pair):
    missed = pair.reflected - pair.recorder.called
    assert not missed, f"not driven by this test: {sorted(missed)}"


STORIES = [
    the_pair_becomes_redundant,
    reflection_and_health_need_no_files_of_ours,
    what_breaks_a_rule_is_an_invalid_argument,
    what_cannot_be_done_now_is_a_failed_precondition,
    the_mode_is_told_and_not_changed_against_the_rules,
    the_link_is_tested_step_by_step,
    a_certificate_is_imported_and_taken_back,
    a_switchover_there_and_back_is_seen_by_a_watcher,
    a_deadline_ends_the_call_and_not_the_move,
    maintenance_is_pair_wide_and_holds_the_duty,
    the_journal_has_it_all_in_order,
    a_stop_hands_over_and_ends_every_stream,
    every_call_of_the_contract_was_made,
]


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    # A variable of the caller's must not become a setting of the nodes.
    for name in [name for name in os.environ if name.startswith("ONDUTY_")]:
        del os.environ[name]
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="onduty-conformance-") as folder:
        folder = pathlib.Path(folder)
        pair = Pair(program, folder)
        try:
            for story in STORIES:
                name = story.__name__.replace("_", " ")
                try:
                    story(pair)
                except Exception:  # noqa: BLE001, whatever it was: the test has failed
                    failed += 1
                    print(f"FAILED: {name}")
                    traceback.print_exc(file=sys.stdout)
                    break  # the later stories need the pair as this one leaves it
                passed += 1
                print(f"ok: {name}", flush=True)
        finally:
            pair.end()
        if failed:
            for node in (pair.a, pair.b):
                lines = (node.folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
                print(f"--- the log of {node.name}", *lines[-40:], sep="\n")
    skipped = len(STORIES) - passed - failed
    if skipped:
        print(f"{skipped} not tried")
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

//! Seeds of the link: honest conversations, and each rule broken once.

use core::time::Duration;

use failover_core::{
    Beat, BootTime, Containment, Epoch, Fitness, Handover, HandoverReason, Identity, InstanceId, Maintenance,
    MaintenanceWindow, Mode, NodeId, NodeName, PathId, Procedure, Report, RequestId, Role, State, Summary,
    TimingsInForce, TombstonePromise,
};
use onduty_api::heartbeat::{
    Challenge, ClientProofs, DialFrame, Hello, ListenFrame, ServerProof, TestAnswer,
};
use onduty_api::wire::heartbeat::v1 as wire;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::Seed;

fn identity(number: u8) -> Identity {
    let name = NodeName::try_from(format!("node-{number}"));
    Identity {
        node: NodeId([number; 16]),
        instance: InstanceId([number + 16; 16]),
        name: name.unwrap_or_else(|never| panic!("{never}")),
    }
}

fn hello() -> Hello {
    Hello {
        min_version: 1,
        max_version: 1,
        pair: "press-4".to_owned(),
        identity: identity(1),
        role: Role::Secondary,
        mode: Mode::Secondary,
        nonce: [3; 32],
        channel_bound: true,
        test_only: false,
        path: PathId::FIRST,
        paths: 1,
    }
}

fn challenge() -> Challenge {
    let (identity, role, mode) = (identity(2), Role::Primary, Mode::Primary);
    Challenge { version: 1, identity, role, mode, nonce: [4; 32] }
}

fn dial(frame: DialFrame) -> Vec<u8> {
    wire::SessionRequest::from(frame).encode_to_vec()
}

fn listen(frame: ListenFrame) -> Vec<u8> {
    wire::SessionResponse::from(frame).encode_to_vec()
}

fn conversation(frames: &[Vec<u8>]) -> Vec<u8> {
    let length = |frame: &Vec<u8>| u16::try_from(frame.len()).unwrap_or(u16::MAX).to_be_bytes();
    frames.iter().flat_map(|frame| [&length(frame)[..], frame].concat()).collect()
}

/// What strangers send.
pub(crate) fn handshake() -> Vec<Seed> {
    let proofs = |count: usize| {
        dial(DialFrame::Proof(ClientProofs {
            proofs: vec![[5; 32]; count],
            key_checks: vec![[6; 32]; count],
        }))
    };
    let answer = listen(ListenFrame::Proof(ServerProof { proof: [7; 32], matched: 1 }));
    let two_paths = PathId::all(4).last().unwrap_or_default();
    let raw = |change: fn(&mut wire::Hello)| {
        let mut raw = wire::Hello::decode(&hello().encode()[..]).unwrap_or_default();
        change(&mut raw);
        raw.encode_to_vec()
    };
    let raw_proof = |proofs: Vec<Vec<u8>>, key_checks: Vec<Vec<u8>>| {
        let proof = wire::ClientProof { proofs, key_checks };
        wire::SessionRequest { frame: Some(wire::session_request::Frame::Proof(proof)) }.encode_to_vec()
    };
    let (first, second) = (hello().encode(), challenge().encode());
    vec![
        ("empty", Vec::new()),
        ("hello", first.clone()),
        ("hello-test-only", Hello { test_only: true, channel_bound: false, ..hello() }.encode()),
        ("hello-fourth-path", Hello { path: two_paths, paths: 4, ..hello() }.encode()),
        ("hello-of-the-future", Hello { min_version: 2, max_version: u32::MAX, ..hello() }.encode()),
        ("hello-versions-turned", raw(|hello| hello.min_version = 9)),
        ("hello-path-too-high", raw(|hello| hello.path = 4)),
        ("hello-paths-too-many", raw(|hello| hello.paths = u32::MAX)),
        ("hello-no-identity", raw(|hello| hello.identity = None)),
        ("hello-short-nonce", raw(|hello| hello.nonce.truncate(31))),
        ("hello-long-pair", raw(|hello| hello.pair = "p".repeat(129))),
        ("hello-role-unknown", raw(|hello| hello.role = 77)),
        ("hello-frame", dial(DialFrame::Hello(first.clone()))),
        ("challenge", second.clone()),
        ("challenge-no-version", Challenge { version: 0, ..challenge() }.encode()),
        ("challenge-frame", listen(ListenFrame::Challenge(second.clone()))),
        ("proof-one-key", proofs(1)),
        ("proof-two-keys", proofs(2)),
        ("proof-no-key", raw_proof(Vec::new(), Vec::new())),
        ("proof-three-keys", raw_proof(vec![vec![5; 32]; 3], vec![vec![6; 32]; 3])),
        ("proof-without-checks", raw_proof(vec![vec![5; 32]], Vec::new())),
        ("proof-short", raw_proof(vec![vec![5; 31]], vec![vec![6; 32]])),
        ("answer", answer.clone()),
        ("conversation", conversation(&[first.clone(), second.clone(), proofs(2), answer.clone()])),
        ("conversation-one-key", conversation(&[first.clone(), second.clone(), proofs(1), answer])),
        ("conversation-cut", conversation(&[first, second])),
        ("conversation-empty", conversation(&[Vec::new(), Vec::new(), proofs(1)])),
    ]
}

fn report(number: u8) -> Report {
    let second = Duration::from_secs(1);
    Report {
        identity: identity(number),
        revision: 1,
        role: Role::Primary,
        mode: Mode::Primary,
        state: State::Standby,
        fit: Fitness::Fit,
        epoch: None,
        highest_epoch: Epoch(8),
        last_held: Some(Epoch(6)),
        parity: Role::Primary,
        timings: TimingsInForce {
            interval: second,
            takeover_after: second * 3,
            guard_deadline: second,
            startup_wait: second * 3,
        },
        procedure: Procedure::default(),
        maintenance: Maintenance::default(),
        tombstone: None,
        summary: Summary {
            version: "0.1.0".to_owned(),
            project: "c0ffee".to_owned(),
            containment: Some(Containment::Namespace),
            plugins: vec![("bridge".to_owned(), "ready".to_owned())],
        },
    }
}

fn active(number: u8, epoch: u64) -> Report {
    let tombstone = Some(TombstonePromise { epoch: Epoch(epoch), sha256: [9; 32] });
    Report {
        state: State::Active,
        epoch: Some(Epoch(epoch)),
        highest_epoch: Epoch(epoch),
        tombstone,
        ..report(number)
    }
}

fn as_secondary(report: Report) -> Report {
    Report { role: Role::Secondary, mode: Mode::Secondary, parity: Role::Secondary, ..report }
}

fn beat(sequence: u64, report: Report) -> Beat {
    // The target's own stamps: a second beat echoes the first of them.
    let echo = (sequence > 1).then(|| BootTime::from_millis(60_000));
    Beat { sequence, stamp: BootTime::from_millis(1_000 * sequence), echo, report }
}

fn beats(reports: &[Report]) -> Vec<u8> {
    let frame =
        |(number, report): (u64, &Report)| listen(ListenFrame::Beat(Box::new(beat(number, report.clone()))));
    conversation(&(1..).zip(reports).map(frame).collect::<Vec<_>>())
}

fn moves(change: fn(&mut Procedure, Handover)) -> Report {
    let handover = Handover { request: RequestId("move-1".to_owned()), reason: HandoverReason::Switchover };
    let mut report = active(2, 8);
    change(&mut report.procedure, handover);
    report
}

/// What a proved peer sends.
pub(crate) fn heartbeat() -> Vec<Seed> {
    let one = |report: Report| dial(DialFrame::Beat(Box::new(beat(1, report))));
    let window =
        MaintenanceWindow { reason: "oil".to_owned(), by: "ann".to_owned(), until_unix: 1_790_000_060 };
    let maintained = Report { maintenance: Maintenance { version: 3, window: Some(window) }, ..report(2) };
    let times = |span: Duration| TimingsInForce {
        interval: span,
        takeover_after: span,
        guard_deadline: span,
        startup_wait: span,
    };
    let of_times = |span| Report { timings: times(span), ..active(2, 8) };
    let most = Summary { plugins: vec![("p".repeat(16), "ready".to_owned()); 64], ..report(2).summary };
    let raw = |change: fn(&mut wire::Beat)| {
        let mut raw = wire::Beat::from(beat(1, report(2)));
        change(&mut raw);
        wire::SessionRequest { frame: Some(wire::session_request::Frame::Beat(raw)) }.encode_to_vec()
    };
    let year = Duration::from_secs(366 * 24 * 3600);
    let mut back = beat(2, report(2));
    back.stamp = BootTime::ZERO;
    let turned = [beat(1, report(2)), back].map(|beat| listen(ListenFrame::Beat(Box::new(beat))));
    let offered = moves(|procedure, handover| procedure.offer = Some(handover));
    let released =
        Report { procedure: Procedure { released: Some(Epoch(8)), ..Procedure::default() }, ..report(2) };
    vec![
        ("empty", Vec::new()),
        ("standby", one(report(2))),
        ("active", one(active(2, 8))),
        ("answer", listen(ListenFrame::Beat(Box::new(beat(1, active(2, 8)))))),
        ("test-answer", TestAnswer::frame(beat(1, report(2)), 1_790_000_000_000).encode_to_vec()),
        ("unfit", one(Report { fit: Fitness::Unfit("no disk".to_owned()), ..report(2) })),
        ("maintained", one(maintained.clone())),
        ("plugins-most", one(Report { summary: most, ..report(2) })),
        ("no-report", raw(|beat| beat.report = None)),
        ("times-longest", one(of_times(year))),
        ("times-none", one(of_times(Duration::ZERO))),
        ("epochs-last", one(active(2, u64::MAX))),
        ("session-standby", beats(&[report(2), report(2), report(2)])),
        ("session-active", beats(&[active(2, 8), active(2, 8), active(2, 8)])),
        ("session-of-a-secondary", beats(&[as_secondary(report(2)), as_secondary(report(2))])),
        ("session-active-secondary", beats(&[as_secondary(active(2, 9)), as_secondary(active(2, 9))])),
        ("session-both-primary", beats(&[active(2, 8), Report { state: State::Starting, ..report(2) }])),
        ("session-offer", beats(&[active(2, 8), offered.clone(), released])),
        ("session-ask", beats(&[report(2), moves(|procedure, ask| procedure.ask = Some(ask))])),
        ("session-decline", beats(&[offered, moves(|procedure, _| procedure.declined = Some(Epoch(8)))])),
        (
            "session-refusal",
            beats(&[moves(|procedure, asked| procedure.refusal = Some((asked.request, "no".to_owned())))]),
        ),
        ("session-maintained", beats(&[maintained, report(2)])),
        (
            "session-times",
            beats(&[of_times(year), of_times(Duration::ZERO), of_times(Duration::from_millis(1))]),
        ),
        ("session-epochs", beats(&[active(2, u64::MAX / 2), as_secondary(active(2, u64::MAX / 2 - 1))])),
        (
            "session-alone",
            beats(&vec![Report { mode: Mode::Deactivated, state: State::Standalone, ..active(2, 8) }; 2]),
        ),
        ("session-other-run", beats(&[report(2), report(3)])),
        ("session-clock-back", conversation(&turned)),
    ]
}

/// What answers at the port of a node that has ended.
pub(crate) fn tombstone() -> Vec<Seed> {
    let secret = [7; 32];
    let promise = |epoch: u64| [&epoch.to_be_bytes()[..], &Sha256::digest(secret)].concat();
    let magic = heartbeat_client::TOMBSTONE_MAGIC;
    let shown = |epoch: u64, secret: &[u8]| [magic, &epoch.to_be_bytes(), secret].concat();
    let after = |epoch: u64, shown: &[u8]| [&promise(epoch)[..], shown].concat();
    vec![
        ("empty", Vec::new()),
        ("promise-alone", promise(12)),
        ("promise-cut", promise(12)[..39].to_vec()),
        ("right", after(12, &shown(12, &secret))),
        ("right-first", after(0, &shown(0, &secret))),
        ("right-last", after(u64::MAX, &shown(u64::MAX, &secret))),
        ("other-epoch", after(12, &shown(14, &secret))),
        ("other-secret", after(12, &shown(12, &[8; 32]))),
        ("short-secret", after(12, &shown(12, &secret[..31]))),
        ("long-secret", after(12, &shown(12, &[7; 33]))),
        ("no-secret", after(12, &shown(12, &[]))),
        ("magic-alone", after(12, magic)),
        ("magic-of-the-future", after(12, &[b"ONDUTY-TOMBSTONE/2\n", &shown(12, &secret)[19..]].concat())),
        ("twice", after(12, &[shown(12, &secret), shown(12, &secret)].concat())),
        ("epoch-turned", after(12, &[magic, &12_u64.to_le_bytes(), &secret].concat())),
        ("digest-shown", after(12, &shown(12, &Sha256::digest(secret)))),
        ("digest-of-nothing", [&12_u64.to_be_bytes()[..], &Sha256::digest([]), &shown(12, &[])].concat()),
        ("tls-alert", after(12, b"\x15\x03\x03\x00\x02\x02\x28")),
        ("http", after(12, b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("ssh", after(12, b"SSH-2.0-OpenSSH_9.7\r\n")),
        ("zeroes", vec![0; 99]),
        ("line-end-of-others", after(12, &[b"ONDUTY-TOMBSTONE/1\r\n", &shown(12, &secret)[19..]].concat())),
    ]
}

//! What is sent is what is received, and nothing that is received can do worse than be refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use failover_core::{
    Beat, BootTime, Containment, Epoch, Event, EventCode, Fitness, Handover, HandoverReason, Identity, Input,
    InstanceId, Maintenance, MaintenanceWindow, Measures, Mode, NodeId, NodeName, PathId, Procedure, Report,
    RequestId, Role, Severity, State, Summary, TimingsInForce, TombstonePromise,
};
use onduty_api::heartbeat::{
    Challenge, ClientProofs, DialFrame, Disorder, Hello, Ledger, ListenFrame, ServerProof,
};
use onduty_api::{events, plugin, wire};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message;

fn identity() -> impl Strategy<Value = Identity> {
    (any::<[u8; 16]>(), any::<[u8; 16]>(), "[A-Za-z0-9._-]{1,64}").prop_map(|(node, instance, name)| {
        Identity {
            node: NodeId(node),
            instance: InstanceId(instance),
            name: NodeName::try_from(name).unwrap(),
        }
    })
}

fn role() -> impl Strategy<Value = Role> {
    select(vec![Role::Primary, Role::Secondary])
}

fn mode() -> impl Strategy<Value = Mode> {
    select(vec![Mode::Primary, Mode::Secondary, Mode::Deactivated])
}

fn span() -> impl Strategy<Value = Duration> {
    (0..=366 * 24 * 3600 - 1_u64, 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n))
}

fn handover() -> impl Strategy<Value = Handover> {
    let reason = select(vec![HandoverReason::Return, HandoverReason::Switchover, HandoverReason::Stop]);
    ("\\PC{1,64}", reason).prop_map(|(request, reason)| Handover { request: RequestId(request), reason })
}

fn procedure() -> impl Strategy<Value = Procedure> {
    let refusal = ("[a-z0-9]{1,64}", ".{0,200}").prop_map(|(request, why)| (RequestId(request), why));
    (
        option::of(handover()),
        option::of(handover()),
        option::of(refusal),
        option::of(any::<u64>()),
        option::of(any::<u64>()),
        option::of(any::<u64>()),
    )
        .prop_map(|(offer, ask, refusal, released, declined, overlap_ms)| Procedure {
            offer,
            ask,
            refusal,
            released: released.map(Epoch),
            declined: declined.map(Epoch),
            overlap_ms,
        })
}

fn maintenance() -> impl Strategy<Value = Maintenance> {
    let window = (".{0,200}", ".{0,60}", any::<u64>())
        .prop_map(|(reason, by, until_unix)| MaintenanceWindow { reason, by, until_unix });
    (any::<u64>(), option::of(window)).prop_map(|(version, window)| Maintenance { version, window })
}

fn summary() -> impl Strategy<Value = Summary> {
    let level =
        select(vec![None, Some(Containment::Namespace), Some(Containment::Cgroup), Some(Containment::Group)]);
    ("[0-9.]{0,16}", "[0-9a-f]{0,64}", level, vec((".{1,20}", "[a-z_]{1,12}"), 0..=64)).prop_map(
        |(version, project, containment, plugins)| Summary { version, project, containment, plugins },
    )
}

fn report() -> impl Strategy<Value = Report> {
    let fit = prop_oneof![Just(Fitness::Fit), ".{0,200}".prop_map(Fitness::Unfit)];
    let timings =
        (span(), span(), span(), span()).prop_map(|(interval, takeover_after, guard_deadline, wait)| {
            TimingsInForce { interval, takeover_after, guard_deadline, startup_wait: wait }
        });
    let epochs = (option::of(any::<u64>()), any::<u64>(), option::of(any::<u64>()));
    let promise = (any::<u64>(), any::<[u8; 32]>())
        .prop_map(|(epoch, sha256)| TombstonePromise { epoch: Epoch(epoch), sha256 });
    let who = (identity(), role(), mode(), select(State::ALL.to_vec()), fit, role());
    (who, epochs, timings, procedure(), maintenance(), option::of(promise), summary()).prop_map(
        |(
            (identity, role, mode, state, fit, parity),
            epochs,
            timings,
            procedure,
            maintenance,
            tombstone,
            summary,
        )| Report {
            identity,
            revision: epochs.1 / 3,
            role,
            mode,
            state,
            fit,
            epoch: epochs.0.map(Epoch),
            highest_epoch: Epoch(epochs.1),
            last_held: epochs.2.map(Epoch),
            parity,
            timings,
            procedure,
            maintenance,
            tombstone,
            summary,
        },
    )
}

fn beat() -> impl Strategy<Value = Beat> {
    (any::<u64>(), any::<u64>(), option::of(any::<u64>()), report()).prop_map(
        |(sequence, stamp, echo, report)| Beat {
            sequence,
            stamp: BootTime::from_nanos(stamp),
            echo: echo.map(BootTime::from_nanos),
            report,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let severities = vec![Severity::Info, Severity::Warn, Severity::Error, Severity::Critical];
    let state = || select(State::ALL.to_vec());
    let measure = || option::of(any::<u64>());
    let measures =
        (measure(), measure(), measure(), measure()).prop_map(|(detected, takeover, outage, overlap)| {
            Measures { detected_ms: detected, takeover_ms: takeover, outage_ms: outage, overlap_ms: overlap }
        });
    let words = (".{0,80}", ".{0,80}", option::of("[a-z]{1,20}".prop_map(RequestId)));
    (
        select(EventCode::ALL.to_vec()),
        select(severities),
        words,
        option::of(any::<u64>()),
        option::of((state(), state())),
        measures,
    )
        .prop_map(|(code, severity, (sentence, cause, request), epoch, transition, measures)| Event {
            code,
            severity,
            sentence,
            cause,
            epoch: epoch.map(Epoch),
            transition,
            request,
            measures,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_beat_survives_the_wire_and_fits_the_limit(beat in beat()) {
        for bytes in [
            wire::heartbeat::v1::SessionRequest::from(DialFrame::Beat(Box::new(beat.clone()))).encode_to_vec(),
            wire::heartbeat::v1::SessionResponse::from(ListenFrame::Beat(Box::new(beat.clone()))).encode_to_vec(),
        ] {
            prop_assert!(bytes.len() < onduty_api::MAX_LINK_MESSAGE);
        }
        let bytes = wire::heartbeat::v1::SessionRequest::from(DialFrame::Beat(Box::new(beat.clone()))).encode_to_vec();
        let received = wire::heartbeat::v1::SessionRequest::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(DialFrame::try_from(received).unwrap(), DialFrame::Beat(Box::new(beat)));
    }

    #[test]
    fn the_handshake_survives_the_wire(
        who in identity(), role in role(), mode in mode(), nonce in any::<[u8; 32]>(), pair in "\\PC{0,30}",
        flags in any::<(bool, bool)>(), path in 0_u8..4, more in 1_usize..4, macs in vec(any::<[u8; 32]>(), 1..=2), version in any::<u32>(),
    ) {
        let hello = Hello {
            min_version: version, max_version: version, pair, identity: who.clone(), role, mode, nonce,
            channel_bound: flags.0, test_only: flags.1,
            path: PathId::try_from(path).unwrap(), paths: (usize::from(path) + more).min(PathId::MOST),
        };
        prop_assert_eq!(&Hello::decode(&hello.clone().encode()).unwrap(), &hello);
        let challenge = Challenge { version, identity: who, role, mode, nonce };
        prop_assert_eq!(&Challenge::decode(&challenge.clone().encode()).unwrap(), &challenge);
        let proofs = ClientProofs { proofs: macs.clone(), key_checks: macs.clone() };
        let sent = wire::heartbeat::v1::ClientProof::from(proofs.clone());
        prop_assert_eq!(ClientProofs::try_from(sent).unwrap(), proofs);
        let proof = ServerProof { proof: macs[0], matched: macs.len() - 1 };
        prop_assert_eq!(ServerProof::try_from(wire::heartbeat::v1::ServerProof::from(proof)).unwrap(), proof);
    }

    #[test]
    fn whatever_a_node_reports_its_peer_accepts(mut report in report(), long in ".{1100,1300}") {
        report.fit = Fitness::Unfit(long.clone());
        report.summary.version = long.clone();
        report.summary.plugins = vec![(long.clone(), long.clone()); 80];
        report.timings.interval = Duration::MAX;
        report.maintenance.window = Some(MaintenanceWindow { reason: long.clone(), by: long.clone(), until_unix: 1 });
        report.procedure.offer = Some(Handover { request: RequestId(long), reason: HandoverReason::Stop });
        let sent = wire::types::v1::NodeReport::from(report);
        prop_assert!(sent.encoded_len() < onduty_api::MAX_LINK_MESSAGE);
        prop_assert!(Report::try_from(sent).is_ok());
    }

    #[test]
    fn an_event_survives_the_wire(event in event(), number in any::<u64>(), unix_ms in 0..4_000_000_000_000_u64) {
        let record = events::Record { number, unix_ms, node: "plant-a".to_owned(), event, chain: [7; 32] };
        let sent = wire::events::v1::Event::from(record.clone()).encode_to_vec();
        let received = wire::events::v1::Event::decode(sent.as_slice()).unwrap();
        prop_assert_eq!(events::Record::try_from(received).unwrap(), record);
    }

    #[test]
    fn a_supervisor_report_survives_the_wire(epoch in any::<u64>(), why in "\\PC{1,100}", summary in summary()) {
        let epoch = Epoch(epoch);
        for input in [
            Input::PluginsReady { epoch },
            Input::PluginsFailed { epoch, why: why.clone() },
            Input::PluginsReaped { epoch },
            Input::StopStuck { epoch, what: why.clone() },
            Input::GuardFired { epoch, why: why.clone() },
            Input::PreflightChanged { unfit: Some(why) },
            Input::PreflightChanged { unfit: None },
            Input::TombstoneArmed { epoch, sha256: [9; 32] },
            Input::SummaryChanged(Box::new(summary)),
        ] {
            prop_assert_eq!(plugin::report(plugin::from_report(input.clone()).unwrap()).unwrap(), input);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..512)) {
        let _ = Hello::decode(&bytes);
        let _ = Challenge::decode(&bytes);
        if let Ok(request) = wire::heartbeat::v1::SessionRequest::decode(bytes.as_slice()) {
            let _ = DialFrame::try_from(request);
        }
        if let Ok(response) = wire::heartbeat::v1::SessionResponse::decode(bytes.as_slice()) {
            let _ = ListenFrame::try_from(response);
        }
        if let Ok(report) = wire::types::v1::NodeReport::decode(bytes.as_slice()) {
            let _ = Report::try_from(report);
        }
        if let Ok(event) = wire::events::v1::Event::decode(bytes.as_slice()) {
            let _ = events::Record::try_from(event);
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_read_but_never_a_panic(beat in beat(), at in any::<prop::sample::Index>(), to: u8) {
        let mut bytes = wire::heartbeat::v1::Beat::from(beat).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(beat) = wire::heartbeat::v1::Beat::decode(bytes.as_slice()) {
            let _ = Beat::try_from(beat);
        }
    }

    #[test]
    fn a_ledger_takes_every_beat_of_its_twin_in_order(base in report(), gaps in vec(0..3_u8, 1..20)) {
        let mut here = Ledger::new(base.identity.clone());
        let mut there = Ledger::new(base.identity.clone());
        let mut now = BootTime::from_millis(5);
        for gap in gaps {
            now = now + Duration::from_millis(u64::from(gap));
            let beat = here.next(now, base.clone());
            prop_assert_eq!(there.receive(&beat), Ok(()));
            let answer = there.next(now, base.clone());
            prop_assert_eq!(answer.echo, Some(beat.stamp));
            prop_assert_eq!(here.receive(&answer), Ok(()));
            prop_assert!(matches!(here.receive(&answer), Err(Disorder::Sequence { .. })), "a replay");
        }
    }
}

/// A valid report, to break one field at a time.
fn a_report() -> wire::types::v1::NodeReport {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    report().new_tree(&mut runner).unwrap().current().into()
}

#[test]
fn a_refused_report_names_the_field() {
    type Breakage = fn(&mut wire::types::v1::NodeReport);
    let cases: [(&str, Breakage); 11] = [
        ("identity", |r| r.identity = None),
        ("identity.node_id", |r| r.identity.as_mut().unwrap().node_id.truncate(15)),
        ("identity.name", |r| r.identity.as_mut().unwrap().name = "a b".to_owned()),
        ("role", |r| r.role = 0),
        ("mode", |r| r.mode = 99),
        ("epoch_parity", |r| r.epoch_parity = 7),
        ("state", |r| r.state = -1),
        ("timings.interval", |r| r.timings.as_mut().unwrap().interval.as_mut().unwrap().seconds = -1),
        ("fitness.reason", |r| r.fitness.as_mut().unwrap().reason = "x".repeat(1025)),
        ("plugins", |r| r.plugins = vec![wire::types::v1::PluginSummary::default(); 65]),
        ("procedure.offer.request_id", |r| {
            r.procedure.get_or_insert_default().offer =
                Some(wire::types::v1::Handover { request_id: String::new(), reason: 1 });
        }),
    ];
    for (field, breakage) in cases {
        let mut report = a_report();
        assert!(Report::try_from(report.clone()).is_ok());
        breakage(&mut report);
        assert_eq!(Report::try_from(report).unwrap_err().field, field);
    }
}

#[test]
fn a_beat_of_somebody_else_or_from_the_past_is_out_of_order() {
    let report = Report::try_from(a_report()).unwrap();
    let now = BootTime::from_millis(1000);
    let mut here = Ledger::new(report.identity.clone());
    let mut there = Ledger::new(report.identity.clone());
    let beat = there.next(now, report.clone());

    let mut foreign = beat.clone();
    foreign.report.identity.instance = InstanceId([0xee; 16]);
    assert_eq!(here.receive(&foreign), Err(Disorder::Identity));
    let mut invented = beat.clone();
    invented.echo = Some(now);
    assert_eq!(here.receive(&invented), Err(Disorder::Echo), "nothing was sent yet");
    assert_eq!(here.receive(&beat), Ok(()));
    let mut back = there.next(now, report.clone());
    back.stamp = now - Duration::from_millis(1);
    assert_eq!(here.receive(&back), Err(Disorder::Stamp));
    let first = here.next(now, report.clone());
    let mut future = there.next(now, report);
    future.echo = Some(first.stamp + Duration::from_millis(1));
    assert_eq!(here.receive(&future), Err(Disorder::Echo), "from the future");
}

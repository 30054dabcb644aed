//! What a single machine makes of sessions, beats and proofs: whom it believes, and what it ignores.
#![allow(clippy::unwrap_used)]

mod pair;

use std::time::Duration;

use failover_core::{
    Beat, BootTime, DialOutcome, Effect, Epoch, EventCode, Identity, Input, LinkVerdict, Machine, Memory,
    Now, Report, SessionId, Settings, State, TombstonePromise,
};

fn at(millis: u64) -> Now {
    Now { boot: BootTime::from_millis(10_000 + millis), unix: 1_700_000_000 + millis / 1000 }
}

/// A secondary that knows its primary, and the primary's report.
fn secondary() -> (Machine, Settings, Report) {
    let settings = pair::settings(1);
    let memory = Memory { paired_with: Some(pair::identity(0, 0)), ..Memory::default() };
    let (machine, _) = Machine::new(at(0), settings.clone(), memory, Some(Epoch(0)));
    let (peer, _) = Machine::new(at(0), pair::settings(0), Memory::default(), Some(Epoch(0)));
    (machine, settings, peer.report())
}

fn prove(machine: &mut Machine, now: Now, session: u64, report: &Report) -> Vec<Effect> {
    let input = Input::SessionProved {
        session: SessionId(session),
        peer: report.identity.clone(),
        role: report.role,
        mode: report.mode,
    };
    machine.handle(now, input)
}

fn beat(
    machine: &mut Machine,
    now: Now,
    (session, sequence): (u64, u64),
    echo: Option<Now>,
    report: &Report,
) -> Vec<Effect> {
    let beat = Beat { sequence, stamp: now.boot, echo: echo.map(|now| now.boot), report: report.clone() };
    machine.handle(now, Input::BeatArrived { session: SessionId(session), beat: Box::new(beat) })
}

/// A primary that is active with epoch 2 and promises a tombstone.
fn active(report: &Report) -> Report {
    let mut active = report.clone();
    (active.state, active.epoch, active.highest_epoch) = (State::Active, Some(Epoch(2)), Epoch(2));
    active.tombstone = Some(TombstonePromise { epoch: Epoch(2), sha256: [3; 32] });
    active
}

fn wake_until(machine: &mut Machine, end: Now) {
    while let Some(due) = machine.deadline().filter(|due| *due <= end.boot) {
        machine.handle(Now { boot: due, unix: end.unix }, Input::Woke);
    }
    machine.handle(end, Input::Woke);
}

fn closed(effects: &[Effect]) -> Vec<u64> {
    effects
        .iter()
        .filter_map(
            |effect| if let Effect::CloseSession { session, .. } = effect { Some(session.0) } else { None },
        )
        .collect()
}

fn said(effects: &[Effect], code: EventCode) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Record(event) if event.code == code))
}

#[test]
fn a_secondary_that_dials_itself_is_refused_and_never_takes_over() {
    let (mut machine, settings, _) = secondary();
    let mut own = machine.report();
    own.identity = settings.identity;
    let effects = prove(&mut machine, at(10), 1, &own);
    assert!(said(&effects, EventCode::PeerRefused));
    assert_eq!(
        closed(&prove(&mut machine, at(11), 2, &own)),
        Vec::<u64>::new(),
        "both ends of one connection"
    );
    for second in 0..60 {
        let now = at(1000 * second + 20);
        own = machine.report();
        beat(&mut machine, now, (1, second), Some(now), &own);
        wake_until(&mut machine, at(1000 * second + 900));
        assert!(!machine.report().state.may_run_plugins(), "after {second} s");
    }
    assert!(matches!(machine.view(at(60_000)).peer.link, LinkVerdict::ProvedRefused(_)));
}

#[test]
fn a_copy_of_the_own_data_directory_is_refused() {
    let (mut machine, settings, mut report) = secondary();
    report.identity = Identity { node: settings.identity.node, ..report.identity };
    assert!(said(&prove(&mut machine, at(10), 1, &report), EventCode::PeerRefused));
}

#[test]
fn a_third_node_with_the_key_does_not_replace_a_living_peer() {
    let (mut machine, _, report) = secondary();
    prove(&mut machine, at(10), 1, &report);
    beat(&mut machine, at(20), (1, 1), Some(at(15)), &report);
    let third = Report { identity: pair::identity(7, 1), ..report };
    let effects = prove(&mut machine, at(30), 2, &third);
    assert_eq!(closed(&effects), [2]);
    assert!(said(&effects, EventCode::SessionRejected));
}

#[test]
fn a_newer_session_of_the_same_peer_replaces_the_older_one() {
    let (mut machine, _, report) = secondary();
    prove(&mut machine, at(10), 1, &report);
    assert_eq!(closed(&prove(&mut machine, at(20), 2, &report)), [1]);
    let before = machine.view(at(30)).peer.last_echo;
    beat(&mut machine, at(30), (1, 9), Some(at(25)), &active(&report));
    assert_eq!(machine.view(at(30)).peer.last_echo, before, "a beat of an older session is ignored");
    assert_eq!(machine.report().state, State::Starting);
}

#[test]
fn doubled_late_and_impossible_echoes_change_nothing() {
    let (mut machine, _, report) = secondary();
    prove(&mut machine, at(10), 1, &report);
    beat(&mut machine, at(500), (1, 5), Some(at(490)), &active(&report));
    let known = machine.view(at(500)).peer.last_echo;
    assert_eq!(known, Some(at(490).boot));
    beat(&mut machine, at(510), (1, 5), Some(at(505)), &report);
    beat(&mut machine, at(520), (1, 4), Some(at(515)), &report);
    beat(&mut machine, at(530), (1, 6), Some(at(400)), &active(&report));
    beat(&mut machine, at(540), (1, 7), Some(at(90_000)), &active(&report));
    assert_eq!(machine.view(at(540)).peer.last_echo, known);
    assert_eq!(machine.report().state, State::Standby);
}

#[test]
fn an_unproved_answer_changes_no_report_and_no_deadline() {
    let (mut machine, _, report) = secondary();
    prove(&mut machine, at(10), 1, &report);
    beat(&mut machine, at(20), (1, 1), Some(at(15)), &active(&report));
    machine.handle(at(30), Input::SessionEnded { session: SessionId(1), cause: "reset".to_owned() });
    let (told, due) = (machine.report(), machine.view(at(30)).peer.last_echo);
    let mut events = 0;
    for n in 0..1000 {
        let outcome = DialOutcome::Unproved("the key does not match".to_owned());
        let effects = machine.handle(at(40 + n), Input::DialFinished(outcome));
        events += effects.iter().filter(|effect| matches!(effect, Effect::Record(_))).count();
    }
    assert_eq!((machine.report(), machine.view(at(1040)).peer.last_echo), (told, due));
    assert_eq!(events, 1, "said once");
}

#[test]
fn a_tombstone_counts_only_for_the_promised_epoch_of_the_newest_session() {
    let scene = || {
        let (mut machine, _, report) = secondary();
        prove(&mut machine, at(10), 1, &report);
        beat(&mut machine, at(20), (1, 1), Some(at(15)), &active(&report));
        machine.handle(at(30), Input::SessionEnded { session: SessionId(1), cause: "reset".to_owned() });
        (machine, report)
    };
    let (mut machine, _) = scene();
    machine.handle(at(40), Input::TombstoneRead { epoch: Epoch(4) });
    assert_eq!(machine.report().state, State::Standby, "another epoch");
    machine.handle(at(50), Input::TombstoneRead { epoch: Epoch(2) });
    assert_eq!(machine.report().state, State::TakingOver);

    let (mut machine, report) = scene();
    prove(&mut machine, at(45), 2, &report);
    machine.handle(at(50), Input::TombstoneRead { epoch: Epoch(2) });
    assert_eq!(machine.report().state, State::Standby, "a new session voids it");
}

#[test]
fn a_lease_that_ran_out_is_never_renewed() {
    let (mut machine, _) = Machine::new(at(0), pair::settings(0), Memory::default(), Some(Epoch(0)));
    machine.handle(at(1), Input::EpochsReserved { up_to: Epoch(32) });
    wake_until(&mut machine, at(3000));
    let epoch = machine.report().epoch.unwrap();
    machine.handle(at(3100), Input::PluginsReady { epoch });
    assert_eq!(machine.report().state, State::Active);
    let effects = machine.handle(at(9000), Input::Stalled { late_by: Duration::from_millis(5900) });
    assert_eq!(machine.report().state, State::Yielding);
    let orders: Vec<_> = effects.iter().filter(|effect| matches!(effect, Effect::Order(_))).collect();
    assert_eq!(orders, [&Effect::Order(failover_core::DutyOrder::Kill { epoch })]);
}

//! What a single machine makes of sessions, beats and proofs: whom it believes, and what it ignores.
#![allow(clippy::unwrap_used)]

mod pair;

use std::time::Duration;

use failover_core::{
    Beat, BootTime, DialOutcome, Effect, Epoch, EventCode, Identity, Input, LinkVerdict, Machine, Memory,
    Now, PathId, Report, RequestId, Role, SessionId, Settings, State, TombstonePromise, Via,
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
    prove_over(machine, now, (0, session), report)
}

/// Path (of two, unless it is the first of one) and session.
fn prove_over(machine: &mut Machine, now: Now, (path, session): (u8, u64), report: &Report) -> Vec<Effect> {
    let path = PathId::try_from(path).unwrap();
    let input = Input::SessionProved {
        session: SessionId(session),
        via: Via {
            path,
            paths: path.index() + 1,
            remote: "10.0.0.1".to_owned(),
            dialled: machine.report().role == Role::Secondary,
        },
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

/// A primary on standby beside an active secondary, heartbeats every 100 ms and a timeout of 500 ms; the heartbeat that was
/// due after 300 ms is read after `late` more. Returns when the primary takes the duty if that was the last one.
fn takeover_after_a_beat_that_is_late(late: u64) -> u64 {
    let settings = Settings { timeout: Duration::from_millis(500), ..pair::settings(0) };
    let (mut machine, _) = Machine::new(at(0), settings, Memory::default(), Some(Epoch(0)));
    machine.handle(at(1), Input::EpochsReserved { up_to: Epoch(32) });
    let (peer, _) = Machine::new(at(0), pair::settings(1), Memory::default(), Some(Epoch(0)));
    let mut report = active(&peer.report());
    (report.timings.interval, report.timings.guard_deadline) =
        (Duration::from_millis(100), Duration::from_millis(160));
    prove(&mut machine, at(5), 1, &report);
    beat(&mut machine, at(10), (1, 0), None, &report);
    for n in 1..3 {
        beat(&mut machine, at(100 * n + 10), (1, n), Some(at(100 * (n - 1) + 10)), &report);
    }
    beat(&mut machine, at(310 + late), (1, 3), Some(at(210)), &report);
    assert_eq!(machine.report().state, State::Standby);
    (310 + late..)
        .find(|ms| {
            machine.handle(at(*ms), Input::Woke);
            machine.report().state == State::TakingOver
        })
        .unwrap()
}

#[test]
fn a_primary_gives_the_sender_of_a_late_heartbeat_the_interval_that_it_has() {
    assert_eq!(takeover_after_a_beat_that_is_late(0), 710, "the timeout after the answer that was echoed");
    assert_eq!(
        takeover_after_a_beat_that_is_late(60),
        770,
        "an interval less than the timeout after the heartbeat"
    );
    assert_eq!(takeover_after_a_beat_that_is_late(350), 1060);
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
        let effects = machine.handle(at(40 + n), Input::DialFinished { path: PathId::FIRST, outcome });
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
fn after_a_freeze_a_person_takes_nothing_from_a_peer_that_lives() {
    let (mut machine, _) = Machine::new(at(0), pair::settings(0), Memory::default(), Some(Epoch(0)));
    machine.handle(at(1), Input::EpochsReserved { up_to: Epoch(32) });
    let (peer, _) = Machine::new(at(0), pair::settings(1), Memory::default(), Some(Epoch(0)));
    prove(&mut machine, at(10), 1, &peer.report());
    machine.handle(at(1000), Input::Stalled { late_by: Duration::from_millis(900) });
    beat(&mut machine, at(1000), (1, 0), None, &peer.report());
    let hand = |request: &str| Input::TakeoverRequested { request: RequestId(request.to_owned()) };
    let effects = machine.handle(at(1001), hand("one"));
    assert!(said(&effects, EventCode::RequestRefused), "the peer may have taken it: {effects:?}");
    assert!(!machine.report().state.may_run_plugins());
    beat(&mut machine, at(2000), (1, 1), Some(at(1002)), &peer.report());
    beat(&mut machine, at(3000), (1, 2), Some(at(2002)), &peer.report());
    machine.handle(at(3001), hand("two"));
    assert_eq!(machine.report().state, State::TakingOver, "it has answered since");
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

#[test]
fn of_two_sessions_that_cross_both_ends_keep_the_same_one() {
    let prove_dialled = |machine: &mut Machine, ms, session, dialled, peer: &Report| {
        let via = Via { path: PathId::FIRST, paths: 1, remote: String::new(), dialled };
        let (role, mode, peer) = (peer.role, peer.mode, peer.identity.clone());
        closed(
            &machine
                .handle(at(ms), Input::SessionProved { session: SessionId(session), via, peer, role, mode }),
        )
    };
    let pairs = [
        (Role::Secondary, Role::Primary),
        (Role::Primary, Role::Primary),
        (Role::Secondary, Role::Secondary),
    ];
    for (first_role, second_role) in pairs {
        let make = |node, role| {
            let settings = Settings { role, ..pair::settings(node) };
            Machine::new(at(0), settings, Memory::default(), Some(Epoch(0))).0
        };
        let (mut first, mut second) = (make(0, first_role), make(1, second_role));
        let (of_first, of_second) = (first.report(), second.report());
        // Session 1 is dialled by the first node, which is the one whose dial stays; session 2 by the second.
        assert_eq!(prove_dialled(&mut first, 10, 1, true, &of_second), Vec::<u64>::new());
        assert_eq!(
            prove_dialled(&mut first, 12, 2, false, &of_second),
            [2],
            "{first_role} and {second_role}"
        );
        assert_eq!(prove_dialled(&mut second, 10, 1, true, &of_first), Vec::<u64>::new());
        assert_eq!(
            prove_dialled(&mut second, 12, 2, false, &of_first),
            [1],
            "{second_role} and {first_role}"
        );
    }
}

#[test]
fn a_session_without_a_sign_of_life_gives_way_whoever_dialled_it() {
    let (mut machine, _, report) = secondary();
    prove(&mut machine, at(10), 1, &report);
    let via = Via { path: PathId::FIRST, paths: 1, remote: String::new(), dialled: false };
    let (role, mode, peer) = (report.role, report.mode, report.identity);
    let session = SessionId(2);
    assert_eq!(
        closed(&machine.handle(at(1200), Input::SessionProved { session, via, peer, role, mode })),
        [1]
    );
}

/// A secondary with two paths, both connected at 10 ms to an active primary.
fn on_two_paths() -> (Machine, Report) {
    let mut settings = pair::settings(1);
    settings.paths = vec!["https://10.0.1.1:5001".to_owned(), "https://10.0.2.1:5001".to_owned()];
    let memory = Memory { paired_with: Some(pair::identity(0, 0)), ..Memory::default() };
    let (mut machine, _) = Machine::new(at(0), settings, memory, Some(Epoch(0)));
    let (peer, _) = Machine::new(at(0), pair::settings(0), Memory::default(), Some(Epoch(0)));
    let report = active(&peer.report());
    prove_over(&mut machine, at(10), (0, 1), &report);
    prove_over(&mut machine, at(11), (1, 2), &report);
    (machine, report)
}

#[test]
fn a_session_replaces_the_one_of_its_own_path_only() {
    let (mut machine, report) = on_two_paths();
    beat(&mut machine, at(20), (1, 1), Some(at(15)), &report);
    beat(&mut machine, at(20), (2, 1), Some(at(15)), &report);
    assert_eq!(closed(&prove_over(&mut machine, at(30), (1, 3), &report)), [2]);
    beat(&mut machine, at(40), (1, 2), Some(at(35)), &report);
    assert_eq!(machine.view(at(40)).peer.last_echo, Some(at(35).boot), "the first path goes on");
    let effects = prove_over(&mut machine, at(50), (0, 2), &report);
    assert_eq!(closed(&effects), [1], "numbers are compared within a path");
}

#[test]
fn a_new_run_of_the_peer_over_one_path_ends_the_sessions_of_both() {
    let (mut machine, report) = on_two_paths();
    beat(&mut machine, at(20), (1, 1), Some(at(15)), &report);
    beat(&mut machine, at(20), (2, 1), Some(at(15)), &report);
    let again = Report { identity: pair::identity(0, 9), ..report.clone() };
    assert_eq!(closed(&prove_over(&mut machine, at(30), (1, 3), &again)), [1, 2]);
    let before = machine.view(at(35)).peer.last_echo;
    beat(&mut machine, at(40), (1, 2), Some(at(38)), &report);
    assert_eq!(machine.view(at(40)).peer.last_echo, before, "the run before says nothing any more");
    // The dead run had begun a handshake over the slow path, and its proof comes now.
    assert_eq!(closed(&prove_over(&mut machine, at(50), (0, 4), &report)), [4]);
    beat(&mut machine, at(60), (3, 1), Some(at(55)), &again);
    assert_eq!(machine.view(at(60)).peer.last_echo, Some(at(55).boot));
    assert_eq!(machine.view(at(60)).peer.report.unwrap().identity, again.identity);
}

#[test]
fn the_dead_run_of_the_peer_is_known_before_the_new_one_has_said_anything() {
    let (mut machine, report) = on_two_paths();
    beat(&mut machine, at(20), (1, 1), Some(at(15)), &report);
    beat(&mut machine, at(20), (2, 1), Some(at(15)), &report);
    let again = Report { identity: pair::identity(0, 9), ..report.clone() };
    assert_eq!(closed(&prove_over(&mut machine, at(30), (1, 3), &again)), [1, 2]);
    assert_eq!(closed(&prove_over(&mut machine, at(31), (0, 4), &again)), Vec::<u64>::new());
    assert_eq!(closed(&prove_over(&mut machine, at(40), (1, 5), &report)), [5], "late, over a slow path");
    beat(&mut machine, at(60), (4, 1), Some(at(55)), &again);
    assert_eq!(machine.view(at(60)).peer.report.unwrap().identity, again.identity);
}

#[test]
fn a_session_that_was_begun_before_the_newest_of_its_path_is_closed() {
    let (mut machine, _, report) = secondary();
    prove(&mut machine, at(10), 2, &report);
    assert_eq!(closed(&prove(&mut machine, at(11), 1, &report)), [1]);
    assert_eq!(closed(&prove(&mut machine, at(12), 2, &report)), Vec::<u64>::new(), "the same once more");
}

#[test]
fn a_person_takes_no_duty_by_a_proof_from_before_something_unproved_answered() {
    let (mut machine, _, report) = secondary();
    let report = active(&report);
    prove(&mut machine, at(10), 1, &report);
    beat(&mut machine, at(20), (1, 1), Some(at(15)), &report);
    machine.handle(at(30), Input::PreflightChanged { unfit: Some("no disk".to_owned()) });
    machine.handle(at(30), maintenance());
    machine.handle(at(40), Input::TombstoneRead { epoch: Epoch(2) });
    machine.handle(at(45), Input::PreflightChanged { unfit: None });
    let outcome = DialOutcome::Unproved("the key does not match".to_owned());
    machine.handle(at(50), Input::DialFinished { path: PathId::FIRST, outcome });
    let effects = machine.handle(at(60), Input::TakeoverRequested { request: RequestId("now".to_owned()) });
    assert!(said(&effects, EventCode::RequestRefused));
    assert_eq!(machine.report().state, State::Standby);
}

fn maintenance() -> Input {
    let (reason, by) = ("a test".to_owned(), "ann".to_owned());
    Input::MaintenanceSet { reason, by, until_unix: 1_800_000_000 }
}

#[test]
fn the_pause_after_failed_returns_grows_to_a_minute_and_is_said() {
    let (mut primary, _) = Machine::new(at(0), pair::settings(0), Memory::default(), Some(Epoch(0)));
    let (peer, _) = Machine::new(at(0), pair::settings(1), Memory::default(), Some(Epoch(0)));
    let report = active(&peer.report());
    let (mut now, mut pauses) = (0, Vec::new());
    for session in 1..=8 {
        prove(&mut primary, at(now), session, &report);
        for sequence in 1..1000 {
            now += 500;
            beat(&mut primary, at(now), (session, sequence), Some(at(now - 1)), &report);
            wake_until(&mut primary, at(now));
            if primary.report().procedure.ask.is_some() {
                break;
            }
        }
        let ended = Input::SessionEnded { session: SessionId(session), cause: "reset".to_owned() };
        let effects = primary.handle(at(now), ended);
        pauses.extend(effects.iter().filter_map(|effect| {
            let Effect::Record(event) = effect else { return None };
            event.sentence.split("asks again in ").nth(1).map(str::to_owned)
        }));
    }
    let expected = ["3 s", "6 s", "12 s", "24 s", "48 s", "60 s", "60 s", "60 s"];
    assert_eq!(pauses, expected.map(|pause| format!("{pause} at the earliest")));
}

#[test]
fn an_older_report_over_a_slow_path_changes_nothing_but_is_a_sign_of_life() {
    let (mut machine, report) = on_two_paths();
    let mut newer = report.clone();
    (newer.revision, newer.epoch, newer.highest_epoch) = (report.revision + 2, Some(Epoch(4)), Epoch(4));
    beat(&mut machine, at(20), (1, 1), Some(at(15)), &newer);
    let older = Report { state: State::Standby, epoch: None, revision: report.revision + 1, ..report };
    beat(&mut machine, at(600), (2, 1), Some(at(18)), &older);
    let view = machine.view(at(600)).peer;
    assert_eq!(view.report, Some(newer));
    assert_eq!(view.last_echo, Some(at(18).boot));
    // Both count, but an old echo never makes the newest older.
    beat(&mut machine, at(700), (2, 2), Some(at(12)), &older);
    assert_eq!(machine.view(at(700)).peer.last_echo, Some(at(18).boot));
    assert_eq!(machine.report().state, State::Standby);
}

#[test]
fn a_proof_over_one_path_does_not_lengthen_the_life_of_a_report_of_the_other() {
    let (mut machine, report) = on_two_paths();
    let idle = Report { state: State::Standby, epoch: None, ..report };
    beat(&mut machine, at(20), (1, 1), Some(at(15)), &idle);
    wake_until(&mut machine, at(2900));
    prove_over(&mut machine, at(2900), (1, 3), &idle);
    wake_until(&mut machine, at(3500));
    let view = machine.view(at(3500));
    assert!(
        view.redundancy.reason.contains("no longer answers") || view.redundancy.reason.contains("connect")
    );
    assert_eq!(machine.report().state, State::Starting, "a report that old is no ground to act");
}

#[test]
fn the_tombstone_of_a_living_session_stands_while_another_path_comes_and_goes() {
    let (mut machine, report) = on_two_paths();
    beat(&mut machine, at(20), (1, 1), Some(at(15)), &report);
    let ended = |session| Input::SessionEnded { session: SessionId(session), cause: "reset".to_owned() };
    machine.handle(at(30), ended(2));
    prove_over(&mut machine, at(40), (1, 3), &report);
    machine.handle(at(50), ended(3));
    // The first session has not ended yet: its cable was cut with the crash.
    let effects = machine.handle(at(60), Input::TombstoneRead { epoch: Epoch(2) });
    assert_eq!(closed(&effects), [1]);
    assert_eq!(machine.report().state, State::TakingOver);
}

#[test]
fn refusals_count_only_while_no_session_is_open() {
    let (mut machine, report) = on_two_paths();
    beat(&mut machine, at(20), (1, 1), Some(at(15)), &report);
    machine.handle(at(30), Input::SessionEnded { session: SessionId(1), cause: "reset".to_owned() });
    machine.handle(at(40), Input::RefusalConfirmed);
    assert_eq!(machine.report().state, State::Standby);
}

#[test]
fn what_a_dial_finds_on_one_path_spoils_no_other_and_counts_once_that_is_silent() {
    let (mut machine, report) = on_two_paths();
    beat(&mut machine, at(20), (1, 1), Some(at(15)), &report);
    machine.handle(at(30), Input::SessionEnded { session: SessionId(2), cause: "reset".to_owned() });
    let path = PathId::try_from(1).unwrap();
    let outcome = DialOutcome::Unproved("the key does not match".to_owned());
    let effects = machine.handle(at(40), Input::DialFinished { path, outcome });
    assert!(!said(&effects, EventCode::PeerUnproved));
    let view = machine.view(at(50)).peer;
    assert_eq!(view.link, LinkVerdict::Established);
    assert!(matches!(view.paths[1].link, LinkVerdict::Unproved(_)));
    // The first path is cut: its session stays open and brings nothing.
    wake_until(&mut machine, at(20_000));
    assert_eq!(machine.report().state, State::Standby, "unproven is not unavailable");
    assert!(machine.view(at(20_000)).warnings.iter().any(|warning| warning.code == EventCode::TakeoverHeld));
}

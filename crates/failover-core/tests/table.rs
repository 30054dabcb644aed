//! The transition table against real machines: every pair of state and input is tried, on copies of machines out of
//! many lives; a transition that the table does not know fails, and so does one that it knows but nobody ever saw.
#![allow(clippy::unwrap_used)]

mod pair;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use failover_core::table::{self, KINDS};
use failover_core::{
    Beat, BootTime, DialOutcome, Epoch, Handover, HandoverReason, Input, Licence, Machine, Mode, Now, PathId,
    RequestId, Role, SessionId, State, Via,
};
use pair::{Dice, World, ms};

type Edges = BTreeMap<(State, &'static str), BTreeSet<State>>;

/// One input of every kind, and where it matters several: right and wrong epoch, session, content.
fn samples(machine: &Machine, peer: Option<&Machine>, session: u64, now: Now) -> Vec<Input> {
    let own = machine.report();
    let epoch = own.epoch.unwrap_or(Epoch(3));
    let promised = peer.and_then(|peer| peer.report().epoch).unwrap_or(Epoch(2));
    let request = || RequestId("sample".to_owned());
    let mut inputs = vec![
        Input::Woke,
        Input::Stalled { late_by: Duration::from_secs(2) },
        Input::SessionEnded { session: SessionId(session), cause: "sample".to_owned() },
        Input::DialFinished { path: PathId::FIRST, outcome: DialOutcome::Silent("sample".to_owned()) },
        Input::DialFinished { path: PathId::FIRST, outcome: DialOutcome::Unproved("sample".to_owned()) },
        Input::RefusalConfirmed,
        Input::TombstoneRead { epoch: promised },
        Input::TombstoneRead { epoch: Epoch(77) },
        Input::TombstoneArmed { epoch, sha256: [1; 32] },
        Input::PreflightChanged { unfit: None },
        Input::PreflightChanged { unfit: Some("sample".to_owned()) },
        Input::SummaryChanged(Box::new(own.summary.clone())),
        Input::EpochsReserved { up_to: Epoch(own.highest_epoch.0 + 100) },
        Input::StorageChanged { trouble: None },
        Input::StorageChanged { trouble: Some("sample".to_owned()) },
        Input::LicenceChanged(Licence::Refused),
        Input::LicenceChanged(Licence::Granted { epoch: own.highest_epoch.next_for(own.role), until: None }),
        Input::SwitchoverRequested { request: request() },
        Input::StopRequested { handover: true },
        Input::StopRequested { handover: false },
        Input::MaintenanceSet {
            reason: "sample".to_owned(),
            by: "ann".to_owned(),
            until_unix: now.unix + 60,
        },
        Input::MaintenanceCleared { by: "ann".to_owned() },
        Input::MaintenanceExpired { version: own.maintenance.version },
        Input::TakeoverRequested { request: request() },
    ];
    for mode in [Mode::Primary, Mode::Secondary, Mode::Deactivated] {
        inputs.extend([true, false].map(|force| Input::ModeRequested { request: request(), mode, force }));
    }
    for epoch in [epoch, Epoch(epoch.0 + 99)] {
        inputs.extend([
            Input::PluginsReady { epoch },
            Input::PluginsFailed { epoch, why: "sample".to_owned() },
            Input::PluginsReaped { epoch },
            Input::StopStuck { epoch, what: "sample".to_owned() },
            Input::GuardFired { epoch, why: "sample".to_owned() },
        ]);
    }
    if let Some(peer) = peer {
        inputs.extend(from_peer(peer, session, now));
    }
    inputs
}

/// What the peer could say: as it is, and with every state and move put in its mouth.
fn from_peer(peer: &Machine, session: u64, now: Now) -> Vec<Input> {
    let told = peer.report();
    let proved = |session, path: u8| Input::SessionProved {
        session: SessionId(session),
        via: Via {
            path: PathId::try_from(path).unwrap(),
            paths: 2,
            remote: "10.0.0.1".to_owned(),
            dialled: false,
        },
        peer: told.identity.clone(),
        role: told.role,
        mode: told.mode,
    };
    let mut inputs =
        vec![proved(session + 1, 0), proved(session.saturating_sub(1), 0), proved(session + 1, 1)];
    for state in State::ALL {
        let mut report = told.clone();
        report.state = state;
        report.epoch = state.may_run_plugins().then(|| Epoch(told.highest_epoch.0 + 1));
        let handover = Handover { request: RequestId("peer".to_owned()), reason: HandoverReason::Switchover };
        if state == State::Standby {
            report.procedure.ask = Some(handover);
            report.procedure.released = Some(told.highest_epoch.next_for(told.role));
        } else {
            report.procedure.offer = Some(handover);
        }
        let beat = Beat { sequence: 1 << 40, stamp: BootTime::from_millis(1), echo: Some(now.boot), report };
        inputs.push(Input::BeatArrived { session: SessionId(session), beat: Box::new(beat) });
    }
    inputs
}

/// Tries everything on a copy of each machine.
fn probe(world: &World, edges: &mut Edges) {
    for node in [0, 1] {
        let host = &world.hosts[node];
        let Some(machine) = host.machine.as_ref() else { continue };
        let now = host.clock(world.now);
        let session = world.links.iter().rev().find(|(_, link)| link.open[node]).map_or(0, |(id, _)| *id);
        let peer = world.hosts[1 - node].machine.as_ref();
        for input in samples(machine, peer, session, now) {
            let mut copy = machine.clone();
            let (kind, from) = (table::kind(&input), copy.report().state);
            let _ = copy.handle(now, input);
            let (to, _) = (copy.report().state, copy.view(now));
            edges.entry((from, kind)).or_default().insert(to);
        }
    }
}

fn lives(edges: &mut Edges) {
    for seed in 0..60_u64 {
        let mut dice = Dice(seed);
        let mut world = World::new(seed);
        world.watch = false;
        colour(&mut world, seed);
        world.boot(0);
        if seed % 5 != 3 {
            world.boot(1);
        }
        world.run_for(ms(20));
        probe(&world, edges);
        for _ in 0..26 {
            world.run_for(dice.within(ms(1), ms(2500)));
            // The last lives are those of nodes whose mode is changed.
            shake(&mut world, &mut dice, seed >= 40);
            stop_short(&mut world, edges);
            probe(&world, edges);
            // Closely after the deed, too: this is where the short states are.
            for _ in 0..2 {
                world.run_for(dice.within(ms(1), ms(30)));
                probe(&world, edges);
            }
        }
        for (from, kind, to) in world.edges {
            edges.entry((from, kind)).or_default().insert(to);
        }
    }
}

/// A node that is being deactivated, and one that stands still until its wait for a deactivated peer is long over.
fn deactivated(edges: &mut Edges) {
    let mut world = World::new(7);
    world.watch = false;
    world.boot(0);
    world.boot(1);
    world.run_for(ms(5000));
    world.request_mode(0, Mode::Deactivated, false);
    for _ in 0..15 {
        world.run_for(ms(100));
        probe(&world, edges);
    }
    world.run_for(ms(2000));
    world.power_off(0);
    world.power_off(1);
    world.boot(1);
    world.freeze(1, ms(60_000));
    world.run_for(ms(50_000));
    probe(&world, edges);
}

/// A node that stands still while its plugins start.
fn stop_short(world: &mut World, edges: &mut Edges) {
    let starting = world.states().iter().position(|state| *state == Some(State::TakingOver));
    if let Some(node) = starting.filter(|node| !world.hosts[*node].frozen) {
        probe(world, edges);
        world.freeze(node, ms(4000));
        world.run_for(ms(2500));
        probe(world, edges);
    }
}

/// Settings of all colours.
fn colour(world: &mut World, seed: u64) {
    for host in &mut world.hosts {
        host.memory.paired_with = Some(pair::identity(0, 9));
        host.settings.startup_wait = Duration::from_secs(3);
        match seed % 12 {
            1 => host.settings.failback = failover_core::FailbackMode::Manual,
            2 => {
                (host.settings.arbitration, host.witness) = (failover_core::Arbitration::Witness, Some(true))
            }
            5 => host.settings.confirm_refusals = true,
            6 => host.disk_works = false,
            7 => host.reserved = None,
            3 => host.start_delay = ms(2500),
            0 => {
                let window = failover_core::MaintenanceWindow {
                    reason: "t".into(),
                    by: "ann".into(),
                    until_unix: u64::MAX,
                };
                host.memory.maintenance = failover_core::Maintenance { version: 1, window: Some(window) };
            }
            9 => (host.settings.arbitration, host.witness) = (failover_core::Arbitration::Witness, None),
            _ => {}
        }
    }
    if seed % 12 == 4 || seed % 12 == 8 {
        world.hosts[0].settings.mode = Mode::Deactivated;
        world.hosts[0].disk_works = seed % 12 == 4;
    }
    if seed % 12 == 2 && seed > 12 {
        world.hosts[0].start_delay = ms(2500);
    }
    if seed % 12 == 11 {
        world.hosts[0].unfit = Some("the program is missing".to_owned());
        world.hosts[1].disk_works = false;
    }
    if seed % 12 == 10 {
        world.hosts[1].settings.mode = Mode::Primary;
        world.hosts[1].settings.role = Role::Primary;
    }
}

fn shake(world: &mut World, dice: &mut Dice, modes: bool) {
    let node = usize::try_from(dice.within(0, 2)).unwrap();
    match dice.within(0, if modes { 16 } else { 14 }) {
        0 => world.crash(node),
        1 => world.power_off(node),
        2 => world.freeze(node, dice.within(ms(100), ms(6000))),
        3 => world.net.cut = [true; 2],
        4 | 5 => world.net = pair::Net::default(),
        6 => world.hosts[node].failing_starts = 2,
        7 => world.hosts[node].stop_delay = dice.within(ms(10), ms(4000)),
        8 => world.tell(node, Input::SwitchoverRequested { request: RequestId(format!("{}", world.now)) }),
        9 => world.tell(node, Input::StopRequested { handover: true }),
        10 => {
            let input =
                Input::MaintenanceSet { reason: "t".to_owned(), by: "ann".to_owned(), until_unix: u64::MAX };
            world.tell(node, input);
        }
        11 => world.tell(node, Input::MaintenanceCleared { by: "ann".to_owned() }),
        12 | 13 if modes => {
            let mode = [Mode::Primary, Mode::Secondary, Mode::Deactivated][dice.within(0, 3) as usize];
            world.request_mode(node, mode, dice.within(0, 2) == 0);
        }
        _ => {
            world.boot(0);
            world.boot(1);
        }
    }
}

#[test]
fn the_table_has_a_line_for_every_state_and_input() {
    for state in State::ALL {
        for kind in KINDS {
            assert!(table::look_up(state, kind).is_some(), "{state} on {kind}");
        }
    }
    assert_eq!(table::look_up(State::Active, "nonsense"), None);
}

#[test]
fn machines_do_what_the_table_says_and_nothing_else() {
    let mut edges = Edges::new();
    lives(&mut edges);
    deactivated(&mut edges);
    let mut wrong = Vec::new();
    for state in State::ALL {
        for kind in KINDS {
            let told: BTreeSet<State> = table::look_up(state, kind).unwrap().to.iter().copied().collect();
            let Some(mut seen) = edges.remove(&(state, kind)) else {
                wrong.push(format!("{state:?} on {kind}: never tried"));
                continue;
            };
            seen.remove(&state);
            if seen != told {
                wrong.push(format!("{state:?} on {kind}: seen {seen:?}, told {told:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_page_is_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/state-machine.md");
    let page = table::markdown();
    if std::env::var_os("UPDATE_TABLE").is_some() {
        std::fs::create_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page,
        "docs/state-machine.md has drifted: UPDATE_TABLE=1 cargo test -p failover-core --test table"
    );
}

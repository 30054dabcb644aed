//! `kill -9` and SIGSTOP of each service in turn. The duty stays where a fault has brought it, so each story is told with the
//! primary active and then with the secondary active.

use test_support::{
    Pair, Profile, Signal, alive, at_most, boot_ns, kill, one_at_a_time, runs_again, timed, undisturbed,
    until,
};

use super::{MANAGEMENT, PATIENCE, SUPERVISOR, Which, options, redundant, running};

/// What services apart may cost beside the figures of the pair.
const APART_MS: f64 = 20.0;
/// `kill -9` of the manager: by the tombstone.
const KILLED_MS: f64 = 60.0 + APART_MS;
/// Frozen, or killed as the active secondary, whom only silence tells: profile `fast`.
const SILENT_MS: f64 = 520.0 + APART_MS;

#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Frozen,
}

/// Brings the fault about; gives the time just before.
fn strike(pair: &mut Pair, node: Which, service: &'static str, fault: Fault) -> u64 {
    match fault {
        Fault::Killed => node.of_mut(pair).kill_service(service),
        Fault::Frozen => {
            let pid = node.of(pair).service(service);
            let before = boot_ns();
            kill(pid, Signal::SIGSTOP);
            before
        }
    }
}

/// Ends it: the service is started again, or goes on.
fn mend(pair: &mut Pair, node: Which, service: &'static str, fault: Fault) {
    match fault {
        Fault::Killed => node.of_mut(pair).start_service(service),
        Fault::Frozen => kill(node.of(pair).service(service), Signal::SIGCONT),
    }
}

/// On the standby: the active node is told, if there is something to tell, and goes on undisturbed.
fn on_standby(pair: &mut Pair, standby: Which, service: &'static str, fault: Fault) {
    println!("{service} of the {standby:?} on standby: {fault:?}");
    let active = standby.other();
    let struck = strike(pair, standby, service, fault);
    if service != MANAGEMENT {
        active.of(pair).reaches("the loss of redundancy", PATIENCE, |status| status.redundancy() != "ready");
    }
    mend(pair, standby, service, fault);
    redundant(pair, active);
    undisturbed(pair, active.of(pair), struck);
    one_at_a_time(pair);
}

/// On the active node: its plugins end, the other node runs within the figure, and the service finds its place again.
fn on_active(pair: &mut Pair, active: Which, service: &'static str, fault: Fault, figure_ms: f64) {
    let what = format!("{service} of the active {active:?}: {fault:?}");
    let plugins = active.of(pair).plugins();
    assert!(!plugins.is_empty(), "the canary is a process");
    let struck = strike(pair, active, service, fault);
    let taken = runs_again(pair, active.other().of(pair), struck);
    at_most(&what, figure_ms, struck, taken);
    assert!(plugins.iter().all(|pid| !alive(*pid)), "{what}: a plugin lives on");
    one_at_a_time(pair);
    mend(pair, active, service, fault);
    redundant(pair, active.other());
    one_at_a_time(pair);
}

/// Both nodes, on standby and active.
fn every_place(heartbeat: bool, fault: Fault, figures_ms: [f64; 2]) {
    let _turn = timed();
    let mut pair = running(options());
    for (active, figure_ms) in [Which::Primary, Which::Secondary].into_iter().zip(figures_ms) {
        let service = |node: Which| if heartbeat { node.services()[0] } else { SUPERVISOR };
        on_standby(&mut pair, active.other(), service(active.other()), fault);
        on_active(&mut pair, active, service(active), fault, figure_ms);
    }
}

#[test]
fn the_heartbeat_killed() {
    // A primary never dials: a killed active secondary is followed by silence.
    every_place(true, Fault::Killed, [KILLED_MS, SILENT_MS]);
}

#[test]
fn the_heartbeat_frozen() {
    every_place(true, Fault::Frozen, [SILENT_MS, SILENT_MS]);
}

#[test]
fn the_supervisor_killed() {
    every_place(false, Fault::Killed, [KILLED_MS, KILLED_MS]);
}

/// Its guard ends the plugins when the lease runs out, and says so itself.
#[test]
fn the_supervisor_frozen() {
    every_place(false, Fault::Frozen, [SILENT_MS, SILENT_MS]);
}

#[test]
fn the_supervisor_frozen_with_the_usual_timings() {
    let _turn = timed();
    let mut pair = running(options().profile(Profile::Standard));
    on_active(&mut pair, Which::Primary, SUPERVISOR, Fault::Frozen, 3050.0 + APART_MS);
}

/// One that is killed while it stands still, after its plugins have gone, leaves nothing that stands in the way.
#[test]
fn a_supervisor_frozen_and_then_killed_leaves_nothing_behind() {
    let _turn = timed();
    let mut pair = running(options());
    let struck = strike(&mut pair, Which::Primary, SUPERVISOR, Fault::Frozen);
    runs_again(&pair, &pair.secondary, struck);
    pair.primary.kill_service(SUPERVISOR);
    until("its guard to be gone", PATIENCE, || {
        // The heartbeat, the certificates, the operators' socket, and nothing of the dead supervisor.
        (pair.primary.onduty_processes().len() == 3).then_some(())
    });
    pair.primary.start_service(SUPERVISOR);
    redundant(&pair, Which::Secondary);
    one_at_a_time(&pair);
}

#[test]
fn the_operators_socket_killed_and_frozen() {
    let _turn = timed();
    let mut pair = running(options());
    let both = [Which::Primary, Which::Secondary];
    for fault in [Fault::Killed, Fault::Frozen] {
        let struck = both.map(|node| strike(&mut pair, node, MANAGEMENT, fault));
        // Whoever asks waits until it gives up: both at once.
        std::thread::scope(|scope| {
            for node in both.map(|node| node.of(&pair)) {
                scope.spawn(|| {
                    let code = node.ask(&["status"]).code;
                    assert!(
                        matches!(code, Some(4 | 7)),
                        "{}: {fault:?}: nobody answers: {code:?}",
                        node.name()
                    );
                });
            }
        });
        for node in both {
            mend(&mut pair, node, MANAGEMENT, fault);
        }
        redundant(&pair, Which::Primary);
        undisturbed(&pair, &pair.primary, struck[0]);
    }
    one_at_a_time(&pair);
}

/// The next heartbeat comes up while the plugins of the last one are just being killed: it may show itself only when they are
/// gone, because the other node would begin beside them.
#[test]
fn a_heartbeat_that_is_back_at_once_waits_for_the_plugins_of_the_one_before() {
    let _turn = timed();
    let mut pair = running(options());
    for active in [Which::Primary, Which::Secondary] {
        if active == Which::Secondary {
            pair.move_to_secondary();
        }
        let heartbeat = active.services()[0];
        let killed = active.of_mut(&mut pair).kill_service(heartbeat);
        active.of_mut(&mut pair).start_service(heartbeat);
        let both = [Which::Primary, Which::Secondary];
        until("redundancy", PATIENCE, || {
            let ready =
                |node: &Which| node.of(&pair).status().is_some_and(|status| status.redundancy() == "ready");
            both.iter().all(ready).then_some(())
        });
        assert!(pair.canary().newest().is_some_and(|stamp| stamp.boot_ns > killed));
        one_at_a_time(&pair);
        // Whoever has it now: the next story begins with the primary.
        if pair.secondary.status().is_some_and(|status| status.state() == "active") {
            assert_eq!(pair.primary.ask(&["switchover"]).code, Some(0));
        }
        redundant(&pair, Which::Primary);
    }
}

//! The scenarios: what breaks, and what is measured. Times in milliseconds.

use std::path::Path;
use std::time::Duration;

use test_support::{
    Link, Node, OF_PRIMARY, OF_SECONDARY, Pair, PairOptions, Profile, Side, Signal, boot_ns, kill,
    ms_between, netns_wanted, until,
};

/// How long anything may take that is not measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// One measured round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    /// From the fault to the first line, or the gap of a planned move.
    pub(crate) ms: f64,
    /// How long both nodes ran.
    pub(crate) overlap_ms: f64,
}

/// One scenario.
pub(crate) struct Scenario {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// The timings.
    pub(crate) profile: Profile,
    /// What is promised.
    pub(crate) figure_ms: f64,
    /// Whether both may run: only where nobody can know better.
    pub(crate) may_overlap: bool,
    /// Where it runs.
    place: Place,
    /// Each service in a process of its own.
    apart: bool,
    /// From redundancy with the primary active to the measured milliseconds.
    measure: fn(&mut Pair, Option<&Link>) -> f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    OneMachine,
    Namespaces,
}

/// Stop and start of a canary, and what a planned move may cost beside them.
const MOVE_MS: f64 = 50.0 + 30.0;

const fn crash(name: &'static str, profile: Profile, figure_ms: f64, measure: Measure) -> Scenario {
    Scenario { name, profile, figure_ms, may_overlap: false, place: Place::OneMachine, apart: false, measure }
}

const fn cut(name: &'static str, profile: Profile, figure_ms: f64, measure: Measure) -> Scenario {
    Scenario { name, profile, figure_ms, may_overlap: true, place: Place::Namespaces, apart: false, measure }
}

/// The same with the services apart: 20 ms more.
const fn apart(scenario: Scenario) -> Scenario {
    Scenario { figure_ms: scenario.figure_ms + 20.0, apart: true, ..scenario }
}

type Measure = fn(&mut Pair, Option<&Link>) -> f64;

/// Every scenario.
pub(crate) const ALL: &[Scenario] = &[
    crash("manager killed", Profile::Standard, 100.0, manager_killed),
    crash("manager killed", Profile::Fast, 60.0, manager_killed),
    crash("every onduty process killed", Profile::Standard, 3050.0, everything_killed),
    crash("every onduty process killed", Profile::Fast, 520.0, everything_killed),
    crash("manager frozen", Profile::Standard, 3050.0, manager_frozen),
    crash("manager frozen", Profile::Fast, 520.0, manager_frozen),
    crash("secondary active, manager killed", Profile::Standard, 3050.0, secondary_killed),
    crash("secondary active, manager frozen", Profile::Standard, 3050.0, secondary_frozen),
    crash("secondary active, manager frozen", Profile::Fast, 520.0, secondary_frozen),
    crash("gap: primary back", Profile::Fast, MOVE_MS, primary_back),
    crash("gap: SIGTERM of the active", Profile::Standard, MOVE_MS, sigterm),
    crash("gap: switchover to the secondary", Profile::Standard, MOVE_MS, switchover),
    crash("gap: switchover to the primary", Profile::Standard, MOVE_MS, switchover_back),
    crash("warning: secondary stopped", Profile::Standard, 3100.0, warning),
    cut("link dropped", Profile::Standard, 3050.0, link_dropped),
    cut("link dropped", Profile::Fast, 520.0, link_dropped),
    cut("primary behind a rejecting firewall", Profile::Standard, 3050.0, rejected),
];

/// With the services apart: what the manager is in one process is the heartbeat or the supervisor here.
pub(crate) const APART: &[Scenario] = &[
    apart(crash("heartbeat killed", Profile::Standard, 100.0, heartbeat_killed)),
    apart(crash("heartbeat killed", Profile::Fast, 60.0, heartbeat_killed)),
    apart(crash("supervisor killed", Profile::Standard, 100.0, supervisor_killed)),
    apart(crash("supervisor killed", Profile::Fast, 60.0, supervisor_killed)),
    apart(crash("every onduty process killed", Profile::Standard, 3050.0, everything_killed)),
    apart(crash("every onduty process killed", Profile::Fast, 520.0, everything_killed)),
    apart(crash("heartbeat frozen", Profile::Standard, 3050.0, heartbeat_frozen)),
    apart(crash("heartbeat frozen", Profile::Fast, 520.0, heartbeat_frozen)),
    apart(crash("supervisor frozen", Profile::Standard, 3050.0, supervisor_frozen)),
    apart(crash("supervisor frozen", Profile::Fast, 520.0, supervisor_frozen)),
    apart(crash("secondary active, heartbeat killed", Profile::Standard, 3050.0, client_killed)),
    apart(crash("secondary active, heartbeat frozen", Profile::Fast, 520.0, client_frozen)),
    apart(crash("secondary active, supervisor killed", Profile::Fast, 60.0, its_supervisor_killed)),
    apart(crash("secondary active, supervisor frozen", Profile::Fast, 520.0, its_supervisor_frozen)),
    apart(crash("gap: SIGTERM of the heartbeat", Profile::Standard, MOVE_MS, heartbeat_ends)),
    apart(crash("gap: SIGTERM of the supervisor", Profile::Standard, MOVE_MS, supervisor_ends)),
    apart(crash("gap: switchover to the secondary", Profile::Standard, MOVE_MS, switchover)),
    apart(crash("gap: switchover to the primary", Profile::Standard, MOVE_MS, switchover_back)),
    apart(crash("warning: secondary stopped", Profile::Standard, 3100.0, warning)),
    apart(cut("link dropped", Profile::Standard, 3050.0, link_dropped)),
    apart(cut("link dropped", Profile::Fast, 520.0, link_dropped)),
    apart(cut("primary behind a rejecting firewall", Profile::Standard, 3050.0, rejected)),
];

impl Scenario {
    /// Runs it; `None` where this machine cannot.
    pub(crate) fn rounds(&self, binary: &Path, count: usize) -> Option<Vec<Round>> {
        if self.place == Place::Namespaces && !netns_wanted() {
            return None;
        }
        Some((0..count).map(|_| self.round(binary)).collect())
    }

    fn round(&self, binary: &Path) -> Round {
        let link = (self.place == Place::Namespaces).then(Link::new);
        let options = PairOptions::new(&binary.to_string_lossy()).profile(self.profile).manual();
        let side = |link: &Link, side: Side| (link.namespace(side), link.address(side));
        let network = link.as_ref().map(|link| [side(link, Side::A), side(link, Side::B)]);
        let options = PairOptions { network, ..options };
        let mut pair = if self.apart { running_apart(options) } else { Pair::running(options) };
        random_wait(self.profile);
        let ms = (self.measure)(&mut pair, link.as_ref());
        Round { ms, overlap_ms: pair.canary().overlap_ms() }
    }
}

pub(crate) fn running_apart(options: PairOptions) -> Pair {
    let mut pair = Pair::prepare(options);
    pair.start_apart();
    pair.redundant();
    pair
}

/// Waits for a random part of the heartbeat interval, so that faults hit every phase of it.
fn random_wait(profile: Profile) {
    let interval = u64::try_from(profile.interval().as_nanos()).unwrap_or(u64::MAX);
    let random = getrandom::u64().expect("the kernel has random numbers");
    let end = boot_ns() + random % interval;
    until("a random phase", PATIENCE, || (boot_ns() >= end).then_some(()));
}

/// Waits for a node to run; gives the milliseconds since the fault.
fn running(pair: &Pair, node: &Node, fault_ns: u64) -> f64 {
    let first = until("the takeover", PATIENCE, || pair.canary().first_of(node.name(), fault_ns).cloned());
    ms_between(fault_ns, first.boot_ns)
}

fn manager_killed(pair: &mut Pair, _: Option<&Link>) -> f64 {
    let fault = pair.primary.kill_manager();
    running(pair, &pair.secondary, fault)
}

fn everything_killed(pair: &mut Pair, _: Option<&Link>) -> f64 {
    let fault = pair.primary.kill_everything();
    running(pair, &pair.secondary, fault)
}

fn manager_frozen(pair: &mut Pair, _: Option<&Link>) -> f64 {
    let fault = pair.primary.signal(Signal::SIGSTOP);
    running(pair, &pair.secondary, fault)
}

fn secondary_killed(pair: &mut Pair, _: Option<&Link>) -> f64 {
    pair.move_to_secondary();
    random_wait(pair.options.profile);
    let fault = pair.secondary.kill_manager();
    running(pair, &pair.primary, fault)
}

fn secondary_frozen(pair: &mut Pair, _: Option<&Link>) -> f64 {
    pair.move_to_secondary();
    random_wait(pair.options.profile);
    let fault = pair.secondary.signal(Signal::SIGSTOP);
    running(pair, &pair.primary, fault)
}

// With the services apart.

const SUPERVISOR: &str = "plugin-supervisor";
const SERVER: &str = OF_PRIMARY[0];
const CLIENT: &str = OF_SECONDARY[0];

/// Freezes a service; gives the time just before.
fn freeze(node: &Node, service: &str) -> u64 {
    let pid = node.service(service);
    let before = boot_ns();
    kill(pid, Signal::SIGSTOP);
    before
}

fn heartbeat_killed(pair: &mut Pair, _: Option<&Link>) -> f64 {
    let fault = pair.primary.kill_service(SERVER);
    running(pair, &pair.secondary, fault)
}

fn supervisor_killed(pair: &mut Pair, _: Option<&Link>) -> f64 {
    let fault = pair.primary.kill_service(SUPERVISOR);
    running(pair, &pair.secondary, fault)
}

fn heartbeat_frozen(pair: &mut Pair, _: Option<&Link>) -> f64 {
    let fault = freeze(&pair.primary, SERVER);
    running(pair, &pair.secondary, fault)
}

fn supervisor_frozen(pair: &mut Pair, _: Option<&Link>) -> f64 {
    let fault = freeze(&pair.primary, SUPERVISOR);
    running(pair, &pair.secondary, fault)
}

/// The duty is with the secondary, and has been for some part of an interval.
fn secondary_active(pair: &Pair) {
    pair.move_to_secondary();
    random_wait(pair.options.profile);
}

fn client_killed(pair: &mut Pair, _: Option<&Link>) -> f64 {
    secondary_active(pair);
    let fault = pair.secondary.kill_service(CLIENT);
    running(pair, &pair.primary, fault)
}

fn client_frozen(pair: &mut Pair, _: Option<&Link>) -> f64 {
    secondary_active(pair);
    let fault = freeze(&pair.secondary, CLIENT);
    running(pair, &pair.primary, fault)
}

fn its_supervisor_killed(pair: &mut Pair, _: Option<&Link>) -> f64 {
    secondary_active(pair);
    let fault = pair.secondary.kill_service(SUPERVISOR);
    running(pair, &pair.primary, fault)
}

fn its_supervisor_frozen(pair: &mut Pair, _: Option<&Link>) -> f64 {
    secondary_active(pair);
    let fault = freeze(&pair.secondary, SUPERVISOR);
    running(pair, &pair.primary, fault)
}

fn heartbeat_ends(pair: &mut Pair, _: Option<&Link>) -> f64 {
    let asked = pair.primary.ask_to_end(SERVER);
    gap(pair, &pair.secondary, asked)
}

fn supervisor_ends(pair: &mut Pair, _: Option<&Link>) -> f64 {
    let asked = pair.primary.ask_to_end(SUPERVISOR);
    gap(pair, &pair.secondary, asked)
}

/// The gap of a move that has just begun: waits until the node runs.
fn gap(pair: &Pair, node: &Node, asked_ns: u64) -> f64 {
    running(pair, node, asked_ns);
    pair.canary().longest_outage_ms(asked_ns)
}

/// The standby primary of this scenario is asked for by hand, which is the same move as the automatic one.
fn primary_back(pair: &mut Pair, _: Option<&Link>) -> f64 {
    let fault = pair.primary.kill_manager();
    running(pair, &pair.secondary, fault);
    pair.primary.start();
    pair.primary
        .reaches("standby", PATIENCE, |status| status.state() == "standby" && status.redundancy() == "ready");
    switch(pair, true)
}

fn sigterm(pair: &mut Pair, _: Option<&Link>) -> f64 {
    let asked = pair.primary.signal(Signal::SIGTERM);
    gap(pair, &pair.secondary, asked)
}

fn switchover(pair: &mut Pair, _: Option<&Link>) -> f64 {
    switch(pair, false)
}

fn switchover_back(pair: &mut Pair, _: Option<&Link>) -> f64 {
    pair.move_to_secondary();
    switch(pair, true)
}

fn switch(pair: &Pair, to_primary: bool) -> f64 {
    let asked = boot_ns();
    let answer = pair.primary.ask(&["switchover"]);
    assert_eq!(answer.code, Some(0), "switchover: {answer:?}");
    gap(pair, if to_primary { &pair.primary } else { &pair.secondary }, asked)
}

/// Seen through the status command, whose own run time is part of the figure.
fn warning(pair: &mut Pair, _: Option<&Link>) -> f64 {
    let fault = pair.secondary.kill_everything();
    pair.primary.reaches("the warning", PATIENCE, |status| status.warns("peer_disconnected"));
    ms_between(fault, boot_ns())
}

fn link_dropped(pair: &mut Pair, link: Option<&Link>) -> f64 {
    let fault = boot_ns();
    link.expect("this scenario runs in namespaces").cut();
    running(pair, &pair.secondary, fault)
}

fn rejected(pair: &mut Pair, link: Option<&Link>) -> f64 {
    let fault = boot_ns();
    link.expect("this scenario runs in namespaces").reject_arriving(Side::A, pair.port);
    running(pair, &pair.secondary, fault)
}

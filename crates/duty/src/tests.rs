//! The driver with the real machine: a supervisor, a link and operators played by the test. Where the disk plays no
//! part, time is paused; the storage thread is a real one, so its tests run in real time with short waits.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use failover_core::{
    Arbitration, BootTime, DutyOrder, Epoch, Event, EventCode, FailbackMode, Identity, Input, InstanceId,
    Memory, Mode, NodeId, NodeName, OnUnproved, Role, SessionId, Settings, State, View,
};
use service_kit::Clock;
use service_kit::ports::{SupervisorPort, duty_ports};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{advance, timeout};
use tokio_util::sync::CancellationToken;

use crate::simulation::{self, Disk, Simulation};
use crate::storage::Health;
use crate::{DutyHandles, Options, Recorder, RunEnd, build, memory_file};

/// Longer than anything here takes, also on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

fn identity(id: u8) -> Identity {
    let name = NodeName::try_from(format!("node-{id}")).unwrap();
    Identity { node: NodeId([id; 16]), instance: InstanceId([id; 16]), name }
}

fn settings(startup_wait: Duration) -> Settings {
    Settings {
        identity: identity(1),
        mode: Mode::Primary,
        role: Role::Primary,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(3),
        takeover_after: None,
        paths: Vec::new(),
        confirm_refusals: false,
        startup_wait,
        failback: FailbackMode::Automatic,
        stable_for: Duration::from_secs(3),
        flap_limit: 5,
        flap_window: Duration::from_secs(600),
        on_unproved: OnUnproved::Hold,
        handover_on_stop: true,
        start_limit: Duration::from_secs(30),
        stop_limit: Duration::from_secs(10),
        arbitration: Arbitration::None,
        unsafe_settings: Vec::new(),
    }
}

/// A driver that runs, and everything around it.
struct Node {
    handles: DutyHandles,
    supervisor: SupervisorPort,
    events: Arc<Mutex<Vec<Event>>>,
    stop: CancellationToken,
    running: JoinHandle<RunEnd>,
}

impl Node {
    fn start(folder: &Path, clock: Clock, settings: Settings) -> Self {
        Self::start_on(folder, clock, settings, None)
    }

    fn start_on(folder: &Path, clock: Clock, settings: Settings, disk: Option<Arc<dyn Disk>>) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&events);
        let (port, supervisor) = duty_ports();
        let recorder = Recorder::new(move |event| list.lock().unwrap().push(event));
        let options = Options { settings, data_dir: folder.to_owned(), clock, recorder, port };
        let (duty, handles) = match disk {
            None => build(options).unwrap(),
            Some(disk) => simulation::build(options, Simulation::of(disk)),
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(duty.run(stop.clone()));
        Self { handles, supervisor, events, stop, running }
    }

    /// In paused time, with a folder of its own.
    fn paused() -> (Self, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::simulated(BootTime::from_millis(1_000_000), 1_800_000_000);
        (Self::start(folder.path(), clock, settings(Duration::from_secs(3))), folder)
    }

    /// A fit node on which every plugin is ready.
    async fn become_active(&mut self) -> DutyOrder {
        self.supervisor.reports.send(Input::PreflightChanged { unfit: None }).await.unwrap();
        let order = self.order(|order| matches!(order, DutyOrder::Run { .. })).await;
        self.supervisor.reports.send(Input::PluginsReady { epoch: order.epoch() }).await.unwrap();
        self.sees(|view| view.state == State::Active).await;
        order
    }

    async fn order(&mut self, wanted: impl Fn(&DutyOrder) -> bool) -> DutyOrder {
        let given = self.supervisor.orders.wait_for(|order| order.as_ref().is_some_and(&wanted));
        timeout(LIMIT, given).await.expect("an order in time").unwrap().unwrap()
    }

    async fn sees(&self, wanted: impl Fn(&View) -> bool) -> Arc<View> {
        let mut views = self.handles.operators.view();
        let seen = timeout(LIMIT, views.wait_for(|view| wanted(view))).await.expect("the view in time");
        Arc::clone(&seen.unwrap())
    }

    fn recorded(&self, code: EventCode) -> Option<Event> {
        self.events.lock().unwrap().iter().find(|event| event.code == code).cloned()
    }

    fn codes(&self) -> Vec<EventCode> {
        self.events.lock().unwrap().iter().map(|event| event.code).collect()
    }

    /// Waits for an event in real time.
    async fn records(&self, code: EventCode) -> Event {
        let looking = async {
            loop {
                match self.recorded(code) {
                    Some(event) => return event,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        timeout(LIMIT, looking).await.unwrap_or_else(|_| panic!("no {code} in {:?}", self.codes()))
    }

    async fn ends(self) -> RunEnd {
        timeout(LIMIT, self.running).await.expect("an end in time").unwrap()
    }

    /// The peer's first heartbeat: a secondary on standby with the same timings.
    fn beat(&self, session: SessionId) -> Input {
        let own = self.handles.operators.report();
        let report = failover_core::Report {
            identity: identity(2),
            role: Role::Secondary,
            mode: Mode::Secondary,
            state: State::Standby,
            epoch: None,
            parity: Role::Secondary,
            ..(*own).clone()
        };
        let stamp = BootTime::from_millis(77);
        Input::BeatArrived {
            session,
            beat: Box::new(failover_core::Beat { sequence: 1, stamp, echo: None, report }),
        }
    }

    fn proved(session: SessionId) -> Input {
        let via = failover_core::Via::default();
        Input::SessionProved { session, via, peer: identity(2), role: Role::Secondary, mode: Mode::Secondary }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_primary_takes_the_duty_and_renews_its_lease() {
    let (mut node, _folder) = Node::paused();
    let order = node.become_active().await;
    let first = order.hold_until().unwrap();
    let renewed = node.order(|order| order.hold_until().is_some_and(|until| until > first)).await;
    assert_eq!(renewed.epoch(), order.epoch());
}

#[tokio::test(start_paused = true)]
async fn each_session_of_the_active_arms_a_tombstone_with_a_fresh_secret() {
    let (mut node, _folder) = Node::paused();
    let order = node.become_active().await;
    let mut secrets = Vec::new();
    for _ in 0..2 {
        let ticket = node.handles.link.begin_session();
        node.handles.link.tell(Node::proved(ticket.id)).await.unwrap();
        let secret = timeout(LIMIT, node.supervisor.secrets.recv()).await.unwrap().unwrap();
        assert_eq!(secret.epoch, order.epoch());
        secrets.push(secret.secret);
    }
    assert_ne!(secrets[0], secrets[1]);
    assert_ne!(*secrets[0], [0; 32]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_plugins_and_then_the_run() {
    let (mut node, _folder) = Node::paused();
    node.become_active().await;
    node.stop.cancel();
    let order = node.order(|order| matches!(order, DutyOrder::Stop { .. })).await;
    node.supervisor.reports.send(Input::PluginsReaped { epoch: order.epoch() }).await.unwrap();
    assert!(node.handles.link.begin_session().id > SessionId(0));
    assert_eq!(node.ends().await, RunEnd::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_never_ends_is_cut_off_at_its_bound() {
    let (mut node, _folder) = Node::paused();
    node.become_active().await;
    node.stop.cancel();
    let _ = node.order(|order| matches!(order, DutyOrder::Stop { .. })).await;
    // The supervisor says nothing more; its port stays open.
    let Node { running, supervisor: _open, handles: _held, .. } = node;
    assert_eq!(timeout(Duration::from_secs(120), running).await.unwrap().unwrap(), RunEnd::StopTimedOut);
}

#[tokio::test(start_paused = true)]
async fn the_run_ends_when_the_supervisor_is_gone() {
    let (node, _folder) = Node::paused();
    let Node { running, supervisor, handles: _held, .. } = node;
    drop(supervisor);
    assert_eq!(timeout(LIMIT, running).await.unwrap().unwrap(), RunEnd::SupervisorGone);
}

#[tokio::test(start_paused = true)]
async fn after_standing_still_the_machine_hears_of_it_before_what_waited() {
    let (mut node, _folder) = Node::paused();
    node.become_active().await;
    let ticket = node.handles.link.begin_session();
    // Everything below happens before the driver gets a turn: it wakes five seconds late to a full queue.
    let telling = async {
        node.handles.link.tell(Node::proved(ticket.id)).await.unwrap();
        node.handles.link.tell(node.beat(ticket.id)).await.unwrap();
    };
    let ((), ()) = tokio::join!(telling, advance(Duration::from_secs(5)));
    let _ = node.sees(|view| view.peer.paired_with.is_some()).await;
    let codes = node.codes();
    let at = |code| codes.iter().position(|found| *found == code);
    assert!(at(EventCode::PeerConnected).is_some(), "{codes:?}");
    assert!(
        at(EventCode::Stalled).is_some_and(|stalled| Some(stalled) < at(EventCode::PeerConnected)),
        "{codes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_flood_on_the_link_holds_neither_operators_nor_the_supervisor_back() {
    let (mut node, _folder) = Node::paused();
    node.become_active().await;
    let link = node.handles.link.clone();
    let flood = tokio::spawn(async move {
        while link.tell(Input::SessionEnded { session: SessionId(99), cause: "no such".into() }).await.is_ok()
        {
        }
    });
    let set = Input::MaintenanceSet { reason: "flood".into(), by: "test".into(), until_unix: u64::MAX };
    node.handles.operators.ask(set).await.unwrap();
    let _ = node.sees(|view| view.maintenance.window.is_some()).await;
    node.supervisor.reports.send(Input::PreflightChanged { unfit: Some("broken".into()) }).await.unwrap();
    let _ = node.sees(|view| !view.fit.is_fit()).await;
    flood.abort();
}

#[tokio::test(start_paused = true)]
async fn maintenance_ends_by_the_wall_clock() {
    let (node, _folder) = Node::paused();
    let until_unix = node.handles.operators.now().unix + 60;
    let set = Input::MaintenanceSet { reason: "cables".into(), by: "test".into(), until_unix };
    node.handles.operators.ask(set).await.unwrap();
    let _ = node.sees(|view| view.maintenance.window.is_some()).await;
    let waiting = async {
        let mut views = node.handles.operators.view();
        views.wait_for(|view| view.maintenance.window.is_none()).await.unwrap();
    };
    timeout(Duration::from_secs(70), waiting).await.expect("over a minute later");
    assert!(node.handles.operators.now().unix >= until_unix);
    assert!(node.recorded(EventCode::MaintenanceCleared).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_second_session_of_the_peer_closes_the_first_and_only_that() {
    let (mut node, _folder) = Node::paused();
    node.become_active().await;
    let (old, new) = (node.handles.link.begin_session(), node.handles.link.begin_session());
    assert!(new.id > old.id);
    node.handles.link.tell(Node::proved(old.id)).await.unwrap();
    node.handles.link.tell(Node::proved(new.id)).await.unwrap();
    timeout(LIMIT, old.closed.cancelled()).await.expect("the old session closed");
    assert!(!new.closed.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn rejections_are_all_counted_and_seldom_journalled() {
    let (node, _folder) = Node::paused();
    let link = &node.handles.link;
    for _ in 0..1000 {
        link.reject("wrong_key", "somebody has another key".into());
    }
    link.reject("not_tls", "somebody speaks no TLS".into());
    let rejected = |node: &Node| {
        let events = node.events.lock().unwrap();
        events.iter().filter(|event| event.code == EventCode::SessionRejected).cloned().collect::<Vec<_>>()
    };
    assert_eq!(rejected(&node).len(), 2);
    advance(Duration::from_secs(11)).await;
    link.reject("wrong_key", "somebody has another key".into());
    let last = rejected(&node).pop().unwrap();
    assert_eq!(last.cause, "wrong_key; 999 more of the same since the last entry");
    let counts = node.handles.operators.rejected();
    assert_eq!((counts["wrong_key"], counts["not_tls"]), (1001, 1));
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_delays_nothing_and_is_said_loudly() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("gone");
    let mut node = Node::start(&missing, Clock::real(), settings(Duration::from_millis(50)));
    node.become_active().await;
    let said = node.records(EventCode::StorageDegraded).await;
    assert!(said.severity >= failover_core::Severity::Error, "{said:?}");
    std::fs::create_dir(&missing).unwrap();
    let _ = node.records(EventCode::StorageRestored).await;
    assert!(missing.join("epochs").exists());
}

#[test]
fn a_write_that_was_stuck_and_then_failed_is_not_told_as_mended() {
    let failed = || Some("no space left on device".to_owned());
    let (short, long) = (Duration::from_millis(10), Duration::from_secs(4));
    let mut health = Health::new(None);
    assert_eq!(health.after(None, short), None);
    assert_eq!(health.after(failed(), long), Some(Input::StorageChanged { trouble: failed() }));
    assert_eq!(health.pause(), Some(Duration::from_secs(1)));
    assert_eq!(health.after(failed(), short), None, "once");
    let failed = || Some("read-only file system".to_owned());
    assert_eq!(health.after(failed(), short), Some(Input::StorageChanged { trouble: failed() }));
    assert_eq!(health.after(failed(), long), Some(Input::StorageChanged { trouble: failed() }));
    assert_eq!(health.pause(), Some(Duration::from_secs(2)));
    assert_eq!(health.after(None, short), Some(Input::StorageChanged { trouble: None }));
    assert_eq!(health.pause(), None);
    assert_eq!(health.after(None, long), Some(Input::StorageChanged { trouble: None }), "stuck and complete");
}

/// Writes take some seconds and then fail.
struct SlowAndFull;

impl Disk for SlowAndFull {
    fn found(&self) -> (Memory, Option<Epoch>) {
        (Memory::default(), Some(Epoch(64)))
    }

    fn next_write(&self) -> (Duration, Result<(), String>) {
        (Duration::from_secs(3), Err("no space left on device".to_owned()))
    }

    fn written(&self, _: Option<Epoch>, _: Option<&Memory>) {}
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_stalls_and_then_fails_stays_in_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::simulated(BootTime::from_millis(1_000_000), 1_800_000_000);
    let node =
        Node::start_on(folder.path(), clock, settings(Duration::from_secs(3)), Some(Arc::new(SlowAndFull)));
    let set = Input::MaintenanceSet {
        reason: "something to remember".into(),
        by: "test".into(),
        until_unix: u64::MAX,
    };
    node.handles.operators.ask(set).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.recorded(EventCode::StorageRestored), None, "{:?}", node.codes());
    let events = node.events.lock().unwrap();
    let causes =
        events.iter().filter(|event| event.code == EventCode::StorageDegraded).map(|event| &*event.cause);
    assert_eq!(
        causes.take(2).collect::<Vec<_>>(),
        ["a write to the data directory does not come to an end", "no space left on device"]
    );
}

#[tokio::test]
async fn a_forced_change_of_the_mode_is_remembered_before_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.json");
    let memory =
        Memory { paired_with: Some(identity(2)), peer_role: Some(Role::Secondary), ..Memory::default() };
    memory_file::save(&path, &memory).unwrap();
    let node = Node::start(folder.path(), Clock::real(), settings(LIMIT));
    let request = failover_core::RequestId("swap".into());
    let force = Input::ModeRequested { request, mode: Mode::Secondary, force: true };
    node.handles.operators.ask(force).await.unwrap();
    assert_eq!(node.ends().await, RunEnd::ChangeMode(Mode::Secondary));
    let memory_file::Loaded::Known(kept) = memory_file::load(&path).unwrap() else { panic!("no memory") };
    assert_eq!((kept.paired_with, kept.peer_role), (Some(identity(2)), None));
}

#[tokio::test]
async fn what_was_learned_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::start(folder.path(), Clock::real(), settings(Duration::from_millis(50)));
    let order = node.become_active().await;
    let ticket = node.handles.link.begin_session();
    node.handles.link.tell(Node::proved(ticket.id)).await.unwrap();
    node.handles.link.tell(node.beat(ticket.id)).await.unwrap();
    let _ = node.sees(|view| view.peer.paired_with.is_some()).await;
    let kept = || std::fs::read_to_string(folder.path().join("memory.json")).unwrap_or_default();
    let written = async {
        while !(kept().contains("node-2") && folder.path().join("epochs").exists()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, written).await.expect("memory.json and epochs in time");
    node.running.abort();

    let mut again = Node::start(folder.path(), Clock::real(), settings(Duration::from_millis(50)));
    assert_eq!(again.sees(|_| true).await.peer.paired_with, Some(identity(2)));
    assert!(again.recorded(EventCode::EpochTrouble).is_none(), "{:?}", again.codes());
    let next = again.become_active().await;
    assert!(next.epoch() > order.epoch(), "{next:?} after {order:?}");
}

#[tokio::test]
async fn damaged_files_are_kept_aside_and_said_loudly() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("epochs"), [0x5A; 1024]).unwrap();
    std::fs::write(folder.path().join("memory.json"), b"{ not json").unwrap();
    let mut node = Node::start(folder.path(), Clock::real(), settings(Duration::from_millis(50)));
    let _ = node.records(EventCode::EpochTrouble).await;
    let _ = node.records(EventCode::StorageDegraded).await;
    assert_eq!(std::fs::read(folder.path().join("epochs.corrupt-1")).unwrap(), [0x5A; 1024]);
    assert_eq!(std::fs::read(folder.path().join("memory.json.corrupt-1")).unwrap(), b"{ not json");
    node.become_active().await;
}

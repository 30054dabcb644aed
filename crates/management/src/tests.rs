//! The operators' services over a real unix socket, with the real machine behind them and a peer that never comes.
#![allow(clippy::unwrap_used)]

mod crowd;
mod discovery;
mod forward;
mod keys;
mod mode;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use duty::Recorder;
use failover_core::{
    Arbitration, FailbackMode, Identity, Input, InstanceId, Mode, NodeId, NodeName, OnUnproved, Role,
    Settings, Warning,
};
use futures_util::StreamExt as _;
use hyper_util::rt::TokioIo;
use onduty_api::failover::PluginStatus;
use onduty_api::wire::events::v1::events_service_client::EventsServiceClient;
use onduty_api::wire::events::v1::{ListEventsRequest, WatchEventsRequest};
use onduty_api::wire::failover::v1::failover_service_client::FailoverServiceClient;
use onduty_api::wire::failover::v1::{
    ClearMaintenanceRequest, GetStatusRequest, SetMaintenanceRequest, StopRequest, SwitchoverRequest,
    TakeOverRequest, WatchStatusRequest,
};
use onduty_api::wire::heartbeat::v1::TestRequest;
use onduty_api::wire::heartbeat::v1::connection_test_service_client::ConnectionTestServiceClient;
use onduty_api::wire::types::v1 as types;
use service_kit::Clock;
use service_kit::ports::{SupervisorPort, duty_ports};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::tests::mode::mode_settings;
use crate::{ConnectionTest, Keys, NoAddress, Options, RunError, build};

/// Longer than anything here takes, also on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A node without link and plugins, and its operators' socket.
struct Node {
    socket: PathBuf,
    plugins: watch::Sender<Arc<Vec<PluginStatus>>>,
    supervisor: SupervisorPort,
    link: duty::LinkHandle,
    driver: JoinHandle<()>,
    trust_away: watch::Sender<Option<String>>,
    keys: Keys,
    key_trouble: watch::Sender<Vec<Warning>>,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), RunError>>,
    _journal: journal::JournalThread,
    folder: TempDir,
}

fn settings() -> Settings {
    let name = NodeName::try_from("node-a".to_owned()).unwrap();
    Settings {
        identity: Identity { node: NodeId([1; 16]), instance: InstanceId([1; 16]), name },
        mode: Mode::Primary,
        role: Role::Primary,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(3),
        takeover_after: None,
        paths: Vec::new(),
        confirm_refusals: false,
        startup_wait: Duration::from_secs(3600),
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

/// What a node is like.
struct Kind {
    behind_forwarder: bool,
    /// Its driver takes nothing: a request waits for ever, or finds the queue full.
    stands_still: bool,
    settings: Settings,
}

impl Default for Kind {
    fn default() -> Self {
        Self { behind_forwarder: false, stands_still: false, settings: settings() }
    }
}

impl Node {
    fn start() -> Self {
        Self::start_as(Kind::default())
    }

    fn start_as(kind: Kind) -> Self {
        let Kind { behind_forwarder, stands_still, settings } = kind;
        let handover_on_stop = settings.handover_on_stop;
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::real();
        let wall = clock.clone();
        let (journal, thread) = journal::Journal::open(journal::Options {
            path: folder.path().join("journal.db"),
            node: "node-a".to_owned(),
            clock: Arc::new(move || wall.unix_millis()),
        })
        .unwrap();
        let recorder = journal.clone();
        let (port, supervisor) = duty_ports();
        let (duty, handles) = duty::build(duty::Options {
            settings,
            data_dir: folder.path().to_owned(),
            clock: clock.clone(),
            recorder: Recorder::new(move |event| recorder.record(event)),
            port,
        })
        .unwrap();
        let (plugins, seen) = watch::channel(Arc::default());
        let socket = folder.path().join("onduty.sock");
        let trust_away = watch::Sender::new(None);
        let (keys, key_trouble) = keys::two(&clock);
        let management = build(Options {
            socket: socket.clone(),
            operators: handles.operators.clone(),
            journal,
            plugins: seen,
            connection_test: ConnectionTest::new(|| Err(NoAddress("dials nobody".to_owned()))),
            mode: mode_settings(folder.path()),
            started: clock.boot(),
            certificates: None,
            trust_away: trust_away.subscribe(),
            expiring: watch::channel(Vec::new()).1,
            keys: Some(keys.clone()),
            handover_on_stop,
            behind_forwarder,
        })
        .unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(management.run(stop.clone()));
        let link = handles.link.clone();
        let driver = tokio::spawn(async move {
            // The link's handle stays open as long as the driver runs.
            let _handles = handles;
            if stands_still {
                std::future::pending::<()>().await;
            }
            let _end = duty.run(CancellationToken::new()).await;
        });
        Self {
            socket,
            plugins,
            supervisor,
            link,
            driver,
            trust_away,
            keys,
            key_trouble,
            stop,
            serving,
            _journal: thread,
            folder,
        }
    }

    async fn channel(&self) -> Channel {
        let path = self.socket.clone();
        let connect = tower::service_fn(move |_uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://onduty.local").connect_with_connector(connect).await.unwrap()
    }

    async fn failover(&self) -> FailoverServiceClient<Channel> {
        FailoverServiceClient::new(self.channel().await)
    }
}

#[tokio::test]
async fn a_trust_service_that_is_away_is_a_warning_as_long_as_it_lasts() {
    let node = Node::start();
    let mut watch =
        node.failover().await.watch_status(WatchStatusRequest::default()).await.unwrap().into_inner();
    let mut warned = async |wanted: bool| {
        loop {
            let status = timeout(LIMIT, watch.next()).await.unwrap().unwrap().unwrap().status.unwrap();
            if status.warnings.iter().any(|warning| warning.sentence == "it is away") == wanted {
                return status;
            }
        }
    };
    let _calm = warned(false).await;
    node.trust_away.send_replace(Some("it is away".to_owned()));
    let status = warned(true).await;
    let warning = status.warnings.iter().find(|warning| warning.sentence == "it is away").unwrap();
    assert_eq!((warning.code.as_str(), warning.severity()), ("trust_notice", types::Severity::Warn));
    node.trust_away.send_replace(None);
    let _calm = warned(false).await;
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_a_second_node_does_not_take_it_away() {
    let node = Node::start();
    let mode = std::fs::metadata(&node.socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let taken = service_kit::unix_socket::Socket::bind(&node.socket, service_kit::unix_socket::Access::Owner);
    assert!(taken.is_err(), "another node answers there");
    assert!(node.failover().await.get_status(GetStatusRequest {}).await.is_ok());
    assert!(node.folder.path().exists());
}

#[tokio::test]
async fn every_stream_ends_when_the_node_stops_and_the_socket_is_gone() {
    let node = Node::start();
    let heartbeat = None;
    let mut statuses =
        node.failover().await.watch_status(WatchStatusRequest { heartbeat }).await.unwrap().into_inner();
    let mut client = EventsServiceClient::new(node.channel().await);
    let request = WatchEventsRequest { after: 0, backlog: 0 };
    let mut events = client.watch_events(request).await.unwrap().into_inner();
    assert!(statuses.message().await.unwrap().is_some());
    node.stop.cancel();
    timeout(LIMIT, node.serving).await.expect("an end in time").unwrap().unwrap();
    timeout(LIMIT, async { while let Ok(Some(_)) = statuses.message().await {} }).await.expect("its end");
    timeout(LIMIT, async { while let Ok(Some(_)) = events.message().await {} }).await.expect("its end");
    assert!(!node.socket.exists());
}

#[tokio::test]
async fn a_watch_tells_changes_of_machine_and_plugins_and_breaks_its_silence() {
    let node = Node::start();
    let heartbeat = prost_types::Duration::try_from(Duration::from_millis(100)).ok();
    let mut client = node.failover().await;
    let mut statuses = client.watch_status(WatchStatusRequest { heartbeat }).await.unwrap().into_inner();
    for _ in 0..3 {
        let next = timeout(LIMIT, statuses.message()).await.expect("a heartbeat").unwrap();
        assert!(next.is_some());
    }
    let canary = PluginStatus {
        name: "canary".into(),
        state: "ready".into(),
        reason: String::new(),
        since: Clock::real().boot(),
        pid: Some(7),
        restarts: 2,
    };
    node.plugins.send(Arc::new(vec![canary])).unwrap();
    node.supervisor.reports.send(Input::PreflightChanged { unfit: Some("no program".into()) }).await.unwrap();
    let seen = async {
        loop {
            let status = statuses.message().await.unwrap().unwrap().status.unwrap();
            let fitness = status.node.as_ref().and_then(|node| node.fitness.clone()).unwrap();
            if status.plugins.first().is_some_and(|plugin| plugin.pid == Some(7)) && !fitness.fit {
                return fitness.reason;
            }
        }
    };
    assert!(timeout(LIMIT, seen).await.expect("both changes").contains("no program"));
    let short = prost_types::Duration::try_from(Duration::from_millis(99)).ok();
    let refused = client.watch_status(WatchStatusRequest { heartbeat: short }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_the_reason() {
    let node = Node::start();
    let mut client = node.failover().await;
    for check_only in [true, false] {
        let request = SwitchoverRequest { request_id: String::new(), check_only };
        let refused = timeout(LIMIT, client.switchover(request)).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(!refused.message().is_empty());
    }
    let long = SwitchoverRequest { request_id: "x".repeat(65), check_only: false };
    assert_eq!(client.switchover(long).await.unwrap_err().code(), Code::InvalidArgument);
    let taken = client.take_over(TakeOverRequest { request_id: String::new() });
    let refused = timeout(LIMIT, taken).await.unwrap();
    assert!(refused.as_ref().is_err_and(|status| status.code() == Code::FailedPrecondition), "{refused:?}");
    // The same request again is answered as before, and at once: it is not carried out a second time.
    let again = || TakeOverRequest { request_id: "again".to_owned() };
    let first = timeout(LIMIT, client.take_over(again())).await.unwrap().unwrap_err();
    let second = timeout(LIMIT, client.take_over(again())).await.unwrap().unwrap_err();
    assert_eq!((first.code(), first.message()), (second.code(), second.message()));
    assert_eq!(first.code(), Code::FailedPrecondition, "{first:?}");
    let mut test = ConnectionTestServiceClient::new(node.channel().await);
    let refused = test.test(TestRequest {}).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, "dials nobody"));
}

#[tokio::test]
async fn maintenance_needs_a_reason_and_an_end_and_is_journalled_with_its_caller() {
    let node = Node::start();
    let mut client = node.failover().await;
    let window = |reason: &str, seconds| SetMaintenanceRequest {
        reason: reason.to_owned(),
        duration: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    let day = 24 * 3600;
    for wrong in [
        window("", 60),
        window("  ", 60),
        window(&"x".repeat(1025), 60),
        window("x", 0),
        window("x", 32 * day),
    ] {
        assert_eq!(client.set_maintenance(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let set = client.set_maintenance(window("cables", 60)).await.unwrap().into_inner().maintenance.unwrap();
    let set = set.window.unwrap();
    assert_eq!(set.reason, "cables");
    assert!(!set.by.is_empty());
    let cleared = client.clear_maintenance(ClearMaintenanceRequest {}).await.unwrap().into_inner();
    assert!(cleared.maintenance.unwrap().window.is_none());

    let mut events = EventsServiceClient::new(node.channel().await);
    let listed =
        events.list_events(ListEventsRequest { after: 0, limit: 0 }).await.unwrap().into_inner().events;
    let codes: Vec<&str> = listed.iter().map(|event| event.code.as_str()).collect();
    assert!(codes.contains(&"maintenance_set") && codes.contains(&"maintenance_cleared"), "{codes:?}");
    assert!(listed.is_sorted_by_key(|event| event.number));
    let too_many = events.list_events(ListEventsRequest { after: 0, limit: 10_001 }).await.unwrap_err();
    assert_eq!(too_many.code(), Code::InvalidArgument);
    let after = WatchEventsRequest { after: listed[0].number, backlog: 1000 };
    let mut watched = events.watch_events(after).await.unwrap().into_inner();
    let next = timeout(LIMIT, watched.message()).await.unwrap().unwrap().unwrap().event.unwrap();
    assert_eq!(next.number, listed[1].number);
}

#[tokio::test]
async fn a_stop_says_what_it_will_do_and_which_setting_has_it_so() {
    for (handover_on_stop, keep_duty, end) in [
        (true, false, "the duty cannot be handed over: the secondary is not connected as a fitting peer"),
        (false, false, "ends without handing the duty over: `redundancy.handover_on_stop` is false"),
        (false, true, "ends without handing the duty over"),
    ] {
        let settings = Settings {
            handover_on_stop,
            startup_wait: Duration::ZERO,
            interval: Duration::from_millis(50),
            timeout: Duration::from_millis(150),
            ..settings()
        };
        let node = Node::start_as(Kind { settings, ..Kind::default() });
        let mut client = node.failover().await;
        let begun = async {
            let mut watch = client.watch_status(WatchStatusRequest::default()).await.unwrap().into_inner();
            loop {
                let status = watch.message().await.unwrap().unwrap().status.unwrap();
                if status.node.unwrap().state() == types::NodeState::TakingOver {
                    return;
                }
            }
        };
        timeout(LIMIT, begun).await.expect("it begins");
        let told = client.stop(StopRequest { keep_duty }).await.unwrap().into_inner().sentence;
        assert!(told.starts_with("node-a stops its plugins and ") && told.ends_with(end), "{told}");
    }
}

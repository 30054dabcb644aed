//! A supervisor with its driver elsewhere, over its real sockets. The test is the driver's process, so it is never dead:
//! what its death means is told by the stories on real processes.
#![allow(clippy::disallowed_methods, reason = "a test of real processes waits in real time")]
#![allow(clippy::unwrap_used)]

mod common;

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use common::{PATIENCE, sh};
use failover_core::{BootTime, DutyOrder, Epoch, Input};
use onduty_api::plugin::{SupervisorNews, SupervisorOrder, news};
use onduty_api::wire::plugin::v1::plugin_supervisor_service_client::PluginSupervisorServiceClient;
use onduty_api::wire::plugin::v1::{FollowDutyRequest, FollowDutyResponse};
use plugin_supervisor::{ContainmentChoice, LogLimits, Options, apart, build};
use service_kit::guard_line;
use service_kit::ports::duty_ports;
use service_kit::{Clock, descriptor};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

struct Place {
    dir: tempfile::TempDir,
    stop: CancellationToken,
    plugins_stop: CancellationToken,
    serving: tokio::task::JoinHandle<Result<(), apart::RunError>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.plugins_stop.cancel();
    }
}

struct Driver {
    orders: mpsc::Sender<FollowDutyRequest>,
    answers: Streaming<FollowDutyResponse>,
}

impl Place {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (driver_port, port) = duty_ports();
        let (clock, run_dir) = (Clock::real(), dir.path().join("run"));
        let (supervisor, handle) = build(Options {
            plugins: vec![sh("a", "exec sleep 1000")],
            containment: ContainmentChoice::Auto,
            data_dir: dir.path().to_owned(),
            run_dir: run_dir.clone(),
            node: "node-a".to_owned(),
            role: "primary".to_owned(),
            peer: None,
            project: "f00".to_owned(),
            tombstone_for: Duration::from_secs(10),
            log: LogLimits::default(),
            clock: clock.clone(),
            port,
            guard_command: vec![env!("CARGO_BIN_EXE_guard-for-tests").into(), "guard".into()],
        })
        .unwrap();
        let stop_within = Duration::from_secs(10);
        let tombstone_for = Duration::from_secs(10);
        let options =
            apart::Options { run_dir, port: driver_port, handle, tombstone_for, stop_within, clock };
        let service = apart::build(options).unwrap();
        let (stop, plugins_stop) = (CancellationToken::new(), CancellationToken::new());
        let _supervising = tokio::spawn(supervisor.run(plugins_stop.clone()));
        let serving = tokio::spawn(service.run(stop.clone()));
        Self { dir, stop, plugins_stop, serving }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.dir.path().join("run").join(name)
    }

    async fn drive(&self) -> Driver {
        let channel = onduty_api::unix_channel::connect(&self.socket(apart::SOCKET)).await.unwrap();
        let (orders, requests) = mpsc::channel(4);
        let answers = PluginSupervisorServiceClient::new(channel)
            .follow_duty(ReceiverStream::new(requests))
            .await
            .unwrap()
            .into_inner();
        Driver { orders, answers }
    }
}

impl Driver {
    async fn next(&mut self) -> Result<SupervisorNews, Status> {
        let answer = timeout(PATIENCE, self.answers.message()).await.expect("news in time");
        answer.map(|answer| news(answer.expect("the stream goes on")).unwrap())
    }

    /// Reads on until this comes.
    async fn hears(&mut self, what: &str, wanted: impl Fn(&SupervisorNews) -> bool) -> SupervisorNews {
        loop {
            let heard = self.next().await.unwrap_or_else(|status| panic!("{what}: {status}"));
            if wanted(&heard) {
                return heard;
            }
        }
    }

    async fn stands(&mut self) -> Option<Epoch> {
        match self.hears("what stands", |news| matches!(news, SupervisorNews::Standing { .. })).await {
            SupervisorNews::Standing { epoch } => epoch,
            SupervisorNews::Report(_) | SupervisorNews::Plugins(_) => None,
        }
    }

    async fn order(&self, order: DutyOrder) {
        self.orders.send(SupervisorOrder::Standing(order).into()).await.unwrap();
    }
}

fn run(epoch: u64, lease: Duration) -> DutyOrder {
    DutyOrder::Run { epoch: Epoch(epoch), hold_until: Clock::real().boot() + lease }
}

fn report(news: &SupervisorNews, wanted: &Input) -> bool {
    matches!(news, SupervisorNews::Report(report) if report == wanted)
}

/// The next epoch that is gone for good; that nothing lives is said as well.
async fn gone(line: &guard_line::DriverEnd) -> Epoch {
    loop {
        if let Some(epoch) = line.word().await {
            return epoch;
        }
    }
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_broken_stream_stops_nothing_and_the_next_one_begins_with_the_truth() {
    let place = Place::start();
    let mut first = place.drive().await;
    assert_eq!(first.stands().await, None);
    first.order(run(5, LONG)).await;
    let ready = Input::PluginsReady { epoch: Epoch(5) };
    first.hears("ready", |news| report(news, &ready)).await;
    drop(first);

    let mut second = place.drive().await;
    second.hears("ready again", |news| report(news, &ready)).await;
    assert_eq!(second.stands().await, Some(Epoch(5)));
    let pid = |news: &SupervisorNews| matches!(news, SupervisorNews::Plugins(all) if all[0].pid.is_some());
    second.hears("the plugin's process", pid).await;
    second.order(DutyOrder::Kill { epoch: Epoch(5) }).await;
    second.hears("reaped", |news| report(news, &Input::PluginsReaped { epoch: Epoch(5) })).await;
}

#[tokio::test]
async fn without_a_driver_the_lease_runs_out_by_itself_and_the_next_one_is_told() {
    let place = Place::start();
    let mut first = place.drive().await;
    first.stands().await;
    first.order(run(5, Duration::from_millis(400))).await;
    first.hears("ready", |news| report(news, &Input::PluginsReady { epoch: Epoch(5) })).await;
    drop(first);
    let mut second = place.drive().await;
    let fired = |news: &SupervisorNews| {
        matches!(news, SupervisorNews::Report(Input::GuardFired { epoch: Epoch(5), .. }))
    };
    second.hears("fired", fired).await;
    second.hears("reaped", |news| report(news, &Input::PluginsReaped { epoch: Epoch(5) })).await;
    drop(second);
    let mut third = place.drive().await;
    third.hears("fired, again", fired).await;
    assert_eq!(third.stands().await, None, "nothing lives any more");
}

#[tokio::test]
async fn a_second_driver_ends_the_first_and_an_order_without_sense_ends_its_stream() {
    let place = Place::start();
    let mut first = place.drive().await;
    first.stands().await;
    let mut second = place.drive().await;
    second.stands().await;
    let ended = loop {
        if let Err(status) = first.next().await {
            break status;
        }
    };
    assert_eq!(ended.code(), Code::Aborted, "{ended:?}");
    second.orders.send(FollowDutyRequest::default()).await.unwrap();
    let wrong = loop {
        if let Err(status) = second.next().await {
            break status;
        }
    };
    assert_eq!(
        (wrong.code(), wrong.message()),
        (Code::InvalidArgument, "`order` is not told or not known to this version")
    );
}

#[tokio::test]
async fn the_port_is_lent_by_the_driver_alone_and_let_go_only_without_one() {
    let place = Place::start();
    let lender = place.socket(apart::LISTENER_SOCKET);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert!(!descriptor::lend(&lender, listener.as_fd()).await.unwrap(), "nobody drives yet");
    let mut driver = place.drive().await;
    driver.stands().await;
    assert!(descriptor::lend(&lender, listener.as_fd()).await.unwrap());
    let secret = SupervisorOrder::ArmTombstone { epoch: Epoch(5), secret: [7; 32] };
    driver.orders.send(secret.into()).await.unwrap();
    let armed = |news: &SupervisorNews| {
        matches!(news, SupervisorNews::Report(Input::TombstoneArmed { epoch: Epoch(5), .. }))
    };
    driver.hears("armed", armed).await;
    assert!(!descriptor::release(&lender).await.unwrap(), "its driver lives");
    drop(listener);
    assert!(std::net::TcpListener::bind(address).is_err(), "supervisor and guard hold it");
    drop(driver);
    timeout(PATIENCE, async {
        while !descriptor::release(&lender).await.unwrap() {}
        // The guard closes its copy an instant later.
        while std::net::TcpListener::bind(address).is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the port is free");
}

#[tokio::test]
async fn a_supervisor_that_is_to_stop_has_the_duty_given_up_first() {
    let mut place = Place::start();
    let mut driver = place.drive().await;
    driver.stands().await;
    driver.order(run(5, LONG)).await;
    driver.hears("ready", |news| report(news, &Input::PluginsReady { epoch: Epoch(5) })).await;
    place.stop.cancel();
    let failed = |news: &SupervisorNews| {
        matches!(news, SupervisorNews::Report(Input::PluginsFailed { epoch: Epoch(5), .. }))
    };
    driver.hears("failed", failed).await;
    let hold_until: BootTime = Clock::real().boot() + LONG;
    driver.order(DutyOrder::Stop { epoch: Epoch(5), hold_until }).await;
    driver.hears("reaped", |news| report(news, &Input::PluginsReaped { epoch: Epoch(5) })).await;
    assert!(timeout(PATIENCE, &mut place.serving).await.unwrap().unwrap().is_ok());
}

/// Past the supervisor, so also past one that stands still; and for good.
#[tokio::test]
async fn the_guard_ends_an_epoch_for_the_driver_itself_and_never_runs_it_again() {
    let place = Place::start();
    let lender = place.socket(apart::LISTENER_SOCKET);
    let (ours, theirs) = guard_line::line().unwrap();
    assert!(!descriptor::lend_line(&lender, theirs.as_fd()).await.unwrap(), "nobody drives yet");
    let mut driver = place.drive().await;
    driver.stands().await;
    assert!(descriptor::lend_line(&lender, theirs.as_fd()).await.unwrap());
    driver.order(run(5, LONG)).await;
    driver.hears("ready", |news| report(news, &Input::PluginsReady { epoch: Epoch(5) })).await;

    // An older epoch than the lease's is over already, and nothing is ended for its sake.
    ours.end(Epoch(3));
    ours.end(Epoch(5));
    assert_eq!(timeout(PATIENCE, gone(&ours)).await.expect("the guard answers"), Epoch(5));
    let fired = |news: &SupervisorNews| {
        matches!(news, SupervisorNews::Report(Input::GuardFired { epoch: Epoch(5), .. }))
    };
    driver.hears("fired", fired).await;
    driver.hears("reaped", |news| report(news, &Input::PluginsReaped { epoch: Epoch(5) })).await;

    // A lease that runs out is told without being asked for.
    driver.order(run(7, Duration::from_millis(300))).await;
    assert_eq!(timeout(PATIENCE, gone(&ours)).await.expect("the guard says so"), Epoch(7));
}

/// The supervisor may have no time left to say it itself, and nobody else could.
#[tokio::test]
async fn a_guard_that_leaves_with_its_supervisor_tells_the_driver_that_nothing_lives_or_ever_will() {
    let place = Place::start();
    let (ours, theirs) = guard_line::line().unwrap();
    let mut driver = place.drive().await;
    driver.stands().await;
    assert!(descriptor::lend_line(&place.socket(apart::LISTENER_SOCKET), theirs.as_fd()).await.unwrap());
    driver.order(run(5, LONG)).await;
    driver.hears("ready", |news| report(news, &Input::PluginsReady { epoch: Epoch(5) })).await;
    place.plugins_stop.cancel();
    assert_eq!(timeout(PATIENCE, gone(&ours)).await.expect("the guard says so"), Epoch(u64::MAX));
    assert!(common::survivors(place.dir.path()).is_empty());
}

#[tokio::test]
async fn the_port_is_not_let_go_while_something_lives_of_a_driver_before() {
    let place = Place::start();
    let lender = place.socket(apart::LISTENER_SOCKET);
    assert!(descriptor::release(&lender).await.unwrap(), "nothing lives, and nobody drives");
    let mut driver = place.drive().await;
    driver.stands().await;
    driver.order(run(5, LONG)).await;
    driver.hears("ready", |news| report(news, &Input::PluginsReady { epoch: Epoch(5) })).await;
    drop(driver);
    let mut next = place.drive().await;
    assert_eq!(next.stands().await, Some(Epoch(5)));
    drop(next);
    assert!(!descriptor::release(&lender).await.unwrap(), "the plugin of epoch 5 lives");
    let mut last = place.drive().await;
    last.order(DutyOrder::Kill { epoch: Epoch(5) }).await;
    last.hears("reaped", |news| report(news, &Input::PluginsReaped { epoch: Epoch(5) })).await;
    drop(last);
    timeout(PATIENCE, async { while !descriptor::release(&lender).await.unwrap() {} }).await.expect("free");
}

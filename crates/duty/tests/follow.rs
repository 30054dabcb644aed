//! The follower against a supervisor that the test plays: what the driver hears of one that is slow in this or that.
#![allow(clippy::unwrap_used)]

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use duty::{FollowOptions, Follower};
use failover_core::{DutyOrder, Epoch, Input};
use onduty_api::plugin::{SupervisorNews, SupervisorOrder, from_news};
use onduty_api::wire::plugin::v1::plugin_supervisor_service_server::{
    PluginSupervisorService, PluginSupervisorServiceServer,
};
use onduty_api::wire::plugin::v1::{FollowDutyRequest, FollowDutyResponse};
use service_kit::guard_line::{self, Heard, Word};
use service_kit::ports::{DriverPort, duty_ports};
use service_kit::unix_socket::{Access, Socket};
use service_kit::{Clock, descriptor};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Nothing that has to happen takes longer; no test passes or fails by this figure otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// The supervisor's side of one stream.
struct Played {
    orders: Streaming<FollowDutyRequest>,
    answers: mpsc::Sender<Result<FollowDutyResponse, Status>>,
}

/// Hands each stream to the test.
struct Stage(mpsc::Sender<Played>);

#[tonic::async_trait]
impl PluginSupervisorService for Stage {
    type FollowDutyStream = ReceiverStream<Result<FollowDutyResponse, Status>>;

    async fn follow_duty(
        &self,
        request: Request<Streaming<FollowDutyRequest>>,
    ) -> Result<Response<Self::FollowDutyStream>, Status> {
        let (answers, stream) = mpsc::channel(16);
        let played = Played { orders: request.into_inner(), answers };
        self.0.send(played).await.map_err(|_over| Status::aborted("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// A follower, and both its ends.
struct Place {
    dir: tempfile::TempDir,
    driver: DriverPort,
    supervisors: mpsc::Receiver<Played>,
    stop: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Place {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (give, supervisors) = mpsc::channel(1);
        let listener = UnixListener::bind(dir.path().join("supervisor")).unwrap();
        let service = PluginSupervisorServiceServer::new(Stage(give));
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        let (driver, port) = duty_ports();
        let (follower, _plugins) = Follower::new(FollowOptions {
            socket: dir.path().join("supervisor"),
            listener_socket: dir.path().join("lending"),
            listener: None,
            port,
            nothing_lives: Arc::new(|| false),
            clock: Clock::real(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(follower.run(stop.clone()));
        Self { dir, driver, supervisors, stop }
    }

    fn lends(&self) -> Socket {
        Socket::bind(&self.dir.path().join("lending"), Access::Owner).unwrap()
    }

    async fn supervisor(&mut self) -> Played {
        timeout(PATIENCE, self.supervisors.recv()).await.expect("a stream in time").unwrap()
    }

    async fn report(&mut self) -> Input {
        timeout(PATIENCE, self.driver.reports.recv()).await.expect("a report in time").unwrap()
    }
}

impl Played {
    async fn say(&self, news: SupervisorNews) {
        self.answers.send(Ok(from_news(news).unwrap())).await.unwrap();
    }

    async fn order(&mut self) -> DutyOrder {
        let order =
            timeout(PATIENCE, self.orders.message()).await.expect("an order in time").unwrap().unwrap();
        match SupervisorOrder::try_from(order).unwrap() {
            SupervisorOrder::Standing(order) => order,
            SupervisorOrder::ArmTombstone { .. } => panic!("no secret was given"),
        }
    }
}

/// The guard's end of the line that is lent now.
async fn taken(lending: &Socket) -> OwnedFd {
    let borrower = lending.accept().await.unwrap();
    let (word, line) = descriptor::receive(&borrower).await.unwrap();
    assert_eq!(word, descriptor::LINE);
    descriptor::send(&borrower, descriptor::DONE, None).await.unwrap();
    line.unwrap()
}

const FIT: Input = Input::PreflightChanged { unfit: None };

fn run(epoch: u64) -> DutyOrder {
    DutyOrder::Run { epoch: Epoch(epoch), hold_until: Clock::real().boot() + PATIENCE }
}

#[tokio::test]
async fn while_plugins_of_an_earlier_run_do_not_die_the_node_is_unfit_and_its_orders_are_answered() {
    let mut place = Place::start();
    let mut supervisor = place.supervisor().await;
    supervisor.say(SupervisorNews::Report(FIT)).await;
    supervisor.say(SupervisorNews::Standing { epoch: Some(Epoch(3)) }).await;
    assert_eq!(supervisor.order().await, DutyOrder::Kill { epoch: Epoch(3) });
    let Input::PreflightChanged { unfit: Some(why) } = place.report().await else { panic!("not unfit") };
    assert_eq!(why, "the plugin supervisor still ends the plugins of an earlier run");
    place.driver.orders.send_replace(Some(run(5)));
    assert!(matches!(place.report().await, Input::PluginsFailed { epoch: Epoch(5), .. }));
    // It is not over while something lives in its place.
    let kill = DutyOrder::Kill { epoch: Epoch(5) };
    place.driver.orders.send_replace(Some(kill));
    supervisor.say(SupervisorNews::Report(Input::PluginsReaped { epoch: Epoch(3) })).await;
    assert_eq!(place.report().await, Input::PluginsReaped { epoch: Epoch(3) });
    assert_eq!(place.report().await, FIT, "what the supervisor said counts again");
    assert_eq!(supervisor.order().await, kill);
}

#[tokio::test]
async fn a_renewal_does_not_wait_for_a_supervisor_that_is_slow_to_take_its_line() {
    let mut place = Place::start();
    let lending = place.lends();
    place.driver.orders.send_replace(Some(run(5)));
    let mut supervisor = place.supervisor().await;
    supervisor.say(SupervisorNews::Standing { epoch: None }).await;
    let _line = taken(&lending).await;
    assert!(matches!(supervisor.order().await, DutyOrder::Run { epoch: Epoch(5), .. }));
    drop(supervisor);

    let mut again = place.supervisor().await;
    again.say(SupervisorNews::Standing { epoch: Some(Epoch(5)) }).await;
    let mut borrower = lending.accept().await.unwrap();
    assert!(matches!(again.order().await, DutyOrder::Run { epoch: Epoch(5), .. }));
    // It still waits to be taken: its word is there, and not the end of what was given up.
    let mut bytes = [0; 8];
    assert_eq!(borrower.read(&mut bytes).await.unwrap(), 1);
    assert!(borrower.try_read(&mut bytes).is_err(), "the order came only after the lending was given up");
}

/// Should it stand still, nobody could say that its plugins are gone.
#[tokio::test]
async fn nothing_new_is_begun_by_a_supervisor_that_takes_no_line() {
    let mut place = Place::start();
    let lending = place.lends();
    place.driver.orders.send_replace(Some(run(5)));
    let mut supervisor = place.supervisor().await;
    supervisor.say(SupervisorNews::Standing { epoch: None }).await;
    let borrower = lending.accept().await.unwrap();
    let _line = descriptor::receive(&borrower).await.unwrap();
    descriptor::send(&borrower, descriptor::REFUSED, None).await.unwrap();
    let Input::PreflightChanged { unfit: Some(why) } = place.report().await else { panic!("not unfit") };
    assert!(why.contains("it takes no line to its guard"), "{why}");
    assert!(matches!(place.report().await, Input::PluginsFailed { epoch: Epoch(5), .. }));
    assert!(supervisor.orders.message().await.is_ok_and(|order| order.is_none()), "no order came");
}

/// Between the end of the plugins and its word about that it may be stopped: the guard's word counts a moment later.
#[tokio::test]
async fn a_supervisor_that_does_not_say_what_its_guard_has_ended_stands_still() {
    let mut place = Place::start();
    let lending = place.lends();
    place.driver.orders.send_replace(Some(run(5)));
    let mut supervisor = place.supervisor().await;
    supervisor.say(SupervisorNews::Standing { epoch: None }).await;
    let guard = taken(&lending).await;
    assert!(matches!(supervisor.order().await, DutyOrder::Run { epoch: Epoch(5), .. }));
    // Of a stop that was called off the supervisor says something else.
    guard_line::say(&guard, Word::Empty).unwrap();
    supervisor.say(SupervisorNews::Plugins(Vec::new())).await;
    supervisor.say(SupervisorNews::Report(Input::PluginsReady { epoch: Epoch(5) })).await;
    assert_eq!(place.report().await, Input::PluginsReady { epoch: Epoch(5) });

    guard_line::say(&guard, Word::Empty).unwrap();
    assert!(matches!(place.report().await, Input::PreflightChanged { unfit: Some(_) }));
    let asked = async {
        loop {
            if let Heard::Word(word) = guard_line::hear(&guard) {
                return word;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(timeout(PATIENCE, asked).await.expect("the guard is asked"), Word::End(Epoch(5)));
    guard_line::say(&guard, Word::Gone(Epoch(5))).unwrap();
    assert!(matches!(place.report().await, Input::GuardFired { epoch: Epoch(5), .. }));
    assert_eq!(place.report().await, Input::PluginsReaped { epoch: Epoch(5) });
}

/// An older epoch may live in the place of one that never began.
#[tokio::test]
async fn an_epoch_that_never_went_out_is_not_done_while_plugins_of_the_one_before_may_live() {
    let mut place = Place::start();
    let lending = place.lends();
    place.driver.orders.send_replace(Some(run(5)));
    let mut supervisor = place.supervisor().await;
    supervisor.say(SupervisorNews::Standing { epoch: None }).await;
    let guard = taken(&lending).await;
    assert!(matches!(supervisor.order().await, DutyOrder::Run { epoch: Epoch(5), .. }));
    std::fs::remove_file(place.dir.path().join("supervisor")).unwrap();
    drop(supervisor);
    assert!(matches!(place.report().await, Input::PreflightChanged { unfit: Some(_) }));
    place.driver.orders.send_replace(Some(run(7)));
    assert!(matches!(place.report().await, Input::PluginsFailed { epoch: Epoch(7), .. }));
    place.driver.orders.send_replace(Some(DutyOrder::Kill { epoch: Epoch(7) }));
    guard_line::say(&guard, Word::Gone(Epoch(5))).unwrap();
    assert!(matches!(place.report().await, Input::GuardFired { epoch: Epoch(5), .. }));
    assert_eq!(place.report().await, Input::PluginsReaped { epoch: Epoch(5) });
    assert_eq!(place.report().await, Input::PluginsReaped { epoch: Epoch(7) });
}

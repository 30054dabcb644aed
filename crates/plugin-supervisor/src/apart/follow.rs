//! `PluginSupervisorService`: one stream per driver, handed to the hub.

use std::os::fd::OwnedFd;

use onduty_api::plugin::SupervisorOrder;
use onduty_api::wire::plugin::v1::plugin_supervisor_service_server::PluginSupervisorService;
use onduty_api::wire::plugin::v1::{FollowDutyRequest, FollowDutyResponse};
use rustix::process::{Pid, PidfdFlags};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status, Streaming};

use super::hub::{Follower, Message};

/// Answers on their way to the driver: the whole truth, and room for news. A driver that leaves this many unread is ended
/// and comes back to the truth of then.
const ANSWERS: usize = 64;

/// The service.
pub(super) struct Follow {
    hub: mpsc::Sender<Message>,
}

impl Follow {
    pub(super) const fn new(hub: mpsc::Sender<Message>) -> Self {
        Self { hub }
    }
}

#[tonic::async_trait]
impl PluginSupervisorService for Follow {
    type FollowDutyStream = ReceiverStream<Result<FollowDutyResponse, Status>>;

    async fn follow_duty(
        &self,
        request: Request<Streaming<FollowDutyRequest>>,
    ) -> Result<Response<Self::FollowDutyStream>, Status> {
        let caller = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
        let pid = caller.and_then(|caller| caller.pid());
        let process = pid.and_then(hold);
        if process.is_none() {
            tracing::warn!(
                "the driver's process cannot be held: should it crash, its plugins go when the lease runs out"
            );
        }
        let (answers, stream) = mpsc::channel(ANSWERS);
        let (number, numbered) = oneshot::channel();
        let follower = Follower { pid, process, answers };
        let stopping = || Status::unavailable("the plugin supervisor is stopping");
        self.hub.send(Message::Follow { follower, number }).await.map_err(|_ended| stopping())?;
        let number = numbered.await.map_err(|_ended| stopping())?;
        let _detached = tokio::spawn(listen(request.into_inner(), number, self.hub.clone()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Holds the process that connected, so that its death can be told for certain. A process that is gone already, or that
/// another one has replaced under the same number, had not spoken yet: nothing depends on it.
fn hold(pid: i32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()
}

/// Hands the driver's orders on until its stream ends or one makes no sense.
async fn listen(mut orders: Streaming<FollowDutyRequest>, number: u64, hub: mpsc::Sender<Message>) {
    let wrong = loop {
        match orders.message().await {
            Ok(Some(request)) => match SupervisorOrder::try_from(request) {
                Ok(order) => {
                    if hub.send(Message::Order { number, order }).await.is_err() {
                        return;
                    }
                }
                Err(invalid) => break Some(Status::from(invalid)),
            },
            Ok(None) | Err(_) => break None,
        }
    };
    // The hub has ended: nobody asks any more.
    let _ = hub.send(Message::Ended { number, wrong }).await;
}

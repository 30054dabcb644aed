//! `TrustBundleService`: the bundle for the other services of the node.
//!
//! A watcher has no queue: when it can take something it gets what is newest then, so that one that does not read costs one
//! answer, however often the folders change.

use std::sync::Arc;

use onduty_api::trust::{BundleNews, UnknownCertificate, confirmation};
use onduty_api::wire::trust::v1 as wire;
use onduty_api::wire::trust::v1::trust_bundle_service_server::TrustBundleService;
use service_kit::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::convert::to_bytes;
use super::notices::Notices;
use crate::{BundleReceiver, Kept, TrustFolders, TrustKeeper, Unknown};

/// Watchers at the same time: a node has one or two.
const WATCHERS: usize = 16;

/// The service.
#[derive(Clone, Debug)]
pub(super) struct Bundles {
    instance: [u8; 16],
    bundles: BundleReceiver,
    keeper: Arc<dyn TrustKeeper>,
    notices: Notices,
    clock: Clock,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Bundles {
    pub(super) fn new(
        instance: [u8; 16],
        folders: TrustFolders,
        notices: Notices,
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        let bundles = folders.receiver();
        let keeper: Arc<dyn TrustKeeper> = Arc::new(folders);
        Self { instance, bundles, keeper, notices, clock, places: Arc::new(Semaphore::new(WATCHERS)), stop }
    }

    /// Sends what is newest now, and again after every change.
    async fn watch(
        mut self,
        watcher: mpsc::Sender<Result<wire::WatchBundleResponse, Status>>,
        _place: OwnedSemaphorePermit,
    ) {
        let mut notices = self.notices.watch();
        loop {
            // Room first, so that what is sent into it is the newest.
            let Ok(room) = watcher.reserve().await else { return };
            notices.mark_unchanged();
            let bundle = Arc::clone(&self.bundles.borrow_and_update());
            let news = BundleNews {
                instance: self.instance,
                bundle: to_bytes(&bundle),
                notices: self.notices.open(),
            };
            room.send(Ok(news.into()));
            // Cancel-safe: a change that is not seen here is in the next answer all the same.
            tokio::select! {
                Ok(()) = self.bundles.changed() => {}
                Ok(()) = notices.changed() => {}
                () = watcher.closed() => return,
                () = self.stop.cancelled() => break,
            }
        }
        let _ = watcher.try_send(Err(stopping()));
    }
}

fn stopping() -> Status {
    Status::unavailable("the certificate-trust service is stopping")
}

#[tonic::async_trait]
impl TrustBundleService for Bundles {
    type WatchBundleStream = ReceiverStream<Result<wire::WatchBundleResponse, Status>>;

    async fn watch_bundle(
        &self,
        _request: Request<wire::WatchBundleRequest>,
    ) -> Result<Response<Self::WatchBundleStream>, Status> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_full| {
            Status::resource_exhausted(format!("{WATCHERS} watch the bundle already; no more are allowed"))
        })?;
        let (watcher, stream) = mpsc::channel(1);
        let _detached = tokio::spawn(self.clone().watch(watcher, place));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn report_unknown(
        &self,
        request: Request<wire::ReportUnknownRequest>,
    ) -> Result<Response<wire::ReportUnknownResponse>, Status> {
        let UnknownCertificate { certificate, reason, code, seen_unix } =
            UnknownCertificate::try_from(request.into_inner())?;
        let seen_unix = seen_unix.unwrap_or_else(|| self.clock.now().unix);
        match self.keeper.keep(Unknown { der: certificate, code, reason, seen_unix }).await {
            Kept::At(path) => {
                Ok(Response::new(wire::ReportUnknownResponse { file: path.display().to_string() }))
            }
            Kept::No => Err(Status::failed_precondition("this certificate is not one that is kept")),
            Kept::Failed(why) => {
                Err(Status::unavailable(format!("the certificate could not be kept: {why}")))
            }
        }
    }

    async fn confirm_notices(
        &self,
        request: Request<wire::ConfirmNoticesRequest>,
    ) -> Result<Response<wire::ConfirmNoticesResponse>, Status> {
        let (instance, up_to) = confirmation(request.get_ref())?;
        if instance == self.instance {
            self.notices.confirm(up_to);
        }
        Ok(Response::new(wire::ConfirmNoticesResponse {}))
    }
}

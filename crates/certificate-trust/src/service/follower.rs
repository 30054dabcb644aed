//! The other end of `WatchBundle`: keeps the newest bundle of the node's trust service for a process that decides by itself.
//!
//! ```text
//!   certificate-trust ── WatchBundle ──► BundleFollower ─► BundleReceiver ─► Acceptor, Connector decide, and ask nobody
//!                     ◄─ ReportUnknown ─ keeper ◄──────────────────────────── Connector
//! ```
//!
//! While the service is away, dead or standing still, the last bundle stays in force: a session that runs does not notice,
//! and new dials are decided as before. It is said once in the log, and lasts in `away` until the service is back.

use core::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use onduty_api::trust::{BundleNews, MAX_BUNDLE_MESSAGE, Notice, UnknownCertificate};
use onduty_api::unix_channel;
use onduty_api::wire::trust::v1::trust_bundle_service_client::TrustBundleServiceClient;
use onduty_api::wire::trust::v1::{ConfirmNoticesRequest, WatchBundleRequest};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

use super::convert::from_bytes;
use crate::bundle::Later;
use crate::{Bundle, BundleReceiver, BundleSender, Kept, TrustKeeper, Unknown};

/// A service that lives answers at once; long, because a busy machine is no dead service.
const ANSWER: Duration = Duration::from_secs(3);
/// How long a refused dial waits for its certificate to be kept; the refusal stands anyway.
const KEEP: Duration = Duration::from_secs(1);
/// The first wait after the service went away; doubles.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest: a service that starts is found within this.
const LONGEST_WAIT: Duration = Duration::from_millis(800);
/// How often the wait for the very first bundle is said again: nothing works without it.
const REMIND: Duration = Duration::from_secs(30);

/// Takes a notice for the journal; must not wait.
pub type NoticeRecorder = Arc<dyn Fn(Notice) + Send + Sync>;

/// What a follower needs.
pub struct FollowOptions {
    /// The trust service's socket.
    pub socket: PathBuf,
    /// Journals what operators changed there.
    pub record: NoticeRecorder,
}

impl fmt::Debug for FollowOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowOptions").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// What a follower gives.
#[derive(Clone, Debug)]
pub struct Following {
    /// The newest bundle; before the first one it is unusable and has no own certificate.
    pub bundles: BundleReceiver,
    /// Why the service is away, as a sentence; `None` while it is not.
    pub away: watch::Receiver<Option<String>>,
    /// Keeps unknown certificates there.
    pub keeper: Arc<dyn TrustKeeper>,
}

/// Follows the trust service until it is stopped; [`BundleFollower::run`] it.
#[derive(Debug)]
pub struct BundleFollower {
    options: FollowOptions,
    bundles: BundleSender,
    away: watch::Sender<Option<String>>,
    /// The run of the service, and its last notice that was recorded.
    recorded: Option<([u8; 16], u64)>,
    reminded: Option<Instant>,
}

impl BundleFollower {
    /// Nothing is asked before [`BundleFollower::run`]. Must be called inside a runtime.
    #[must_use]
    pub fn new(options: FollowOptions) -> (Self, Following) {
        let (bundles, newest) =
            watch::channel(Arc::new(Bundle::unusable("the certificate-trust service has not answered yet")));
        let (away, is_away) = watch::channel(None);
        let keeper = Arc::new(Remote::new(&options.socket));
        let follower = Self { options, bundles, away, recorded: None, reminded: None };
        (follower, Following { bundles: newest, away: is_away, keeper })
    }

    /// Follows until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let following = async {
            let mut wait = FIRST_WAIT;
            loop {
                let heard = self.follow(&mut wait).await;
                self.lost(&heard);
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        };
        // Dropping it anywhere is harmless: the next run begins with what is true then.
        let _stopped: Option<()> = stop.run_until_cancelled(following).await;
    }

    /// Connects and takes in what comes; gives the reason of the end.
    async fn follow(&mut self, wait: &mut Duration) -> String {
        let channel = match unix_channel::connect(&self.options.socket).await {
            Ok(channel) => channel,
            Err(error) => return innermost(&error),
        };
        let mut client = TrustBundleServiceClient::new(channel).max_decoding_message_size(MAX_BUNDLE_MESSAGE);
        let first = async {
            let mut news = client.watch_bundle(WatchBundleRequest {}).await?.into_inner();
            let first = news.message().await?;
            Ok::<_, Status>((news, first))
        };
        let (mut news, mut next) = match timeout(ANSWER, first).await {
            Ok(Ok(begun)) => begun,
            Ok(Err(status)) => return said(&status),
            Err(_elapsed) => return format!("it has not answered within {} s", ANSWER.as_secs()),
        };
        loop {
            let Some(response) = next else { return "it has ended".to_owned() };
            match BundleNews::try_from(response) {
                Ok(news) => self.take_in(news, &client),
                Err(invalid) => return format!("it has sent something that is no bundle: {invalid}"),
            }
            *wait = FIRST_WAIT;
            // Bounded by the keep-alive of the channel.
            next = match news.message().await {
                Ok(next) => next,
                Err(status) => return said(&status),
            };
        }
    }

    fn take_in(&mut self, news: BundleNews, client: &TrustBundleServiceClient<Channel>) {
        let BundleNews { instance, bundle, notices } = news;
        let bundle = from_bytes(bundle);
        let first = self.bundles.borrow().own.is_none();
        let changed = self.bundles.send_if_modified(|known| {
            let changed = !known.is_same_as(&bundle);
            *known = Arc::new(bundle);
            changed
        });
        let was_away = self.away.send_if_modified(|away| away.take().is_some());
        if first {
            tracing::info!("the certificate-trust service has sent the first bundle");
        } else if was_away {
            let which = if changed { "a new bundle" } else { "the same bundle" };
            tracing::info!("the certificate-trust service is back, with {which}");
        }
        self.record(instance, notices, client);
    }

    /// Journals what is new of the notices, and has them forgotten.
    fn record(
        &mut self,
        instance: [u8; 16],
        notices: Vec<Notice>,
        client: &TrustBundleServiceClient<Channel>,
    ) {
        let known = self.recorded.filter(|(of, _)| *of == instance).map_or(0, |(_, last)| last);
        let Some(last) = notices.last().map(|notice| notice.number) else { return };
        for notice in notices.into_iter().filter(|notice| notice.number > known) {
            (self.options.record)(notice);
        }
        self.recorded = Some((instance, last.max(known)));
        let mut client = client.clone();
        // Beside the stream, which must be read on; a confirmation that is lost comes again with the next notices.
        let _detached = tokio::spawn(async move {
            let request = ConfirmNoticesRequest { instance: instance.to_vec(), up_to: last };
            match timeout(ANSWER, client.confirm_notices(request)).await {
                Ok(Ok(_confirmed)) => {}
                Ok(Err(status)) => tracing::debug!(%status, "confirming notices"),
                Err(elapsed) => tracing::debug!(%elapsed, "confirming notices"),
            }
        });
    }

    /// Says once that the service is away; while there has been no bundle at all, again now and then.
    fn lost(&mut self, why: &str) {
        let waits = self.bundles.borrow().own.is_none();
        let socket = self.options.socket.display();
        let sentence = if waits {
            format!("the certificate-trust service has not answered yet at {socket} ({why}): does it run?")
        } else {
            format!(
                "the certificate-trust service is away ({why}): certificates are judged by what it said last, and changes \
                 have no effect until it is back"
            )
        };
        let due = self.reminded.is_none_or(|at| at.elapsed() >= REMIND);
        let news = self.away.borrow().is_none();
        if news || (waits && due) {
            self.reminded = Some(Instant::now());
            tracing::warn!("{sentence}");
        }
        if news {
            let _ = self.away.send_replace(Some(sentence));
        }
    }
}

fn said(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(cause) => innermost(cause),
        None => status.message().to_owned(),
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

/// Keeps unknown certificates through the service.
#[derive(Clone)]
struct Remote(TrustBundleServiceClient<Channel>);

impl Remote {
    fn new(socket: &Path) -> Self {
        Self(TrustBundleServiceClient::new(unix_channel::lazy(socket)))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

impl TrustKeeper for Remote {
    fn keep(&self, unknown: Unknown) -> Later<'_, Kept> {
        let mut client = self.0.clone();
        Box::pin(async move {
            let Unknown { der, code, reason, seen_unix } = unknown;
            let seen_unix = Some(seen_unix);
            let unknown = UnknownCertificate { certificate: der, code, reason, seen_unix };
            match timeout(KEEP, client.report_unknown(tonic::Request::new(unknown.into()))).await {
                Ok(Ok(kept)) => Kept::At(PathBuf::from(kept.into_inner().file)),
                Ok(Err(status)) => Kept::Failed(format!("the certificate-trust service: {}", said(&status))),
                Err(_elapsed) => Kept::Failed("the certificate-trust service does not answer".to_owned()),
            }
        })
    }
}

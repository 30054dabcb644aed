//! Notices changes in the PKI folders, and in those with the keys: the kernel reports them (inotify), so that a quiet hour costs nothing; and a slow look
//! finds what the kernel does not report, as a folder that was exchanged for another one or a network's file system.
//!
//! A report is not answered at once: an operator who copies a file is not done with its first byte. Kubernetes exchanges
//! mounted files by renaming one link inside the folder, which is a report like any other.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::bundle::TrustKeeper;
use crate::folders::TrustFolders;

/// How long after the first report of a change the folders are read.
const QUIET: Duration = Duration::from_millis(200);
/// How often they are looked at without any report.
pub(crate) const SLOW: Duration = Duration::from_secs(30);
/// Where the kernel reports nothing at all. A dozen calls of `stat`.
pub(crate) const POLL: Duration = Duration::from_secs(5);
/// How soon after a change they are read once more.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

impl TrustFolders {
    /// Publishes a new bundle after each change, until `stop`. Dropping the future is harmless.
    pub async fn watch(self, stop: CancellationToken) {
        let _stopped = stop.run_until_cancelled_owned(self.watch_on()).await;
    }

    async fn watch_on(self) {
        let mut reports = Reports::begin();
        loop {
            // Watched first and read then: what happens in between is reported.
            if let Some(reports) = &mut reports {
                reports.watch(&self.watched());
            }
            self.refresh().await;
            let pause = match &reports {
                _ if !self.is_settled() => AGAIN,
                Some(_) => SLOW,
                None => POLL,
            };
            rest(&mut reports, pause).await;
        }
    }
}

/// Waits until something is reported, and then for the rest of it; at most for this long where nothing is. Cancel-safe.
pub(crate) async fn rest(reports: &mut Option<Reports>, pause: Duration) {
    let until = Instant::now() + pause;
    match reports {
        Some(reports) => {
            // Err: nothing was reported.
            if timeout_at(until, reports.next()).await.is_ok() {
                sleep_until(Instant::now() + QUIET).await;
            }
        }
        None => sleep_until(until).await,
    }
}

/// What the kernel reports.
pub(crate) struct Reports(AsyncFd<OwnedFd>);

impl Reports {
    /// None where there is no inotify, or too many processes use it already.
    pub(crate) fn begin() -> Option<Self> {
        let register = |descriptor| {
            // Deprecated for types whose descriptor can change while it is registered; an `OwnedFd` that nobody else
            // gets hold of cannot. Its successor is `unsafe`, which this workspace forbids.
            #[expect(deprecated, reason = "sound for an OwnedFd")]
            AsyncFd::with_interest(descriptor, Interest::READABLE)
        };
        let begun = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .map_err(std::io::Error::from)
            .and_then(register);
        match begun {
            Ok(descriptor) => Some(Self(descriptor)),
            Err(error) => {
                tracing::info!(%error, "changes of files are not reported: they are looked at");
                None
            }
        }
    }

    /// A folder that is watched already stays so; one that was exchanged is watched anew. What cannot be watched is found by
    /// the slow look.
    pub(crate) fn watch(&self, folders: &[PathBuf]) {
        // Written and closed, rather than written: half a file is nothing to look at.
        let what = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        for folder in folders {
            if let Err(error) = inotify::add_watch(self.0.get_ref(), folder, what) {
                tracing::debug!(folder = %folder.display(), %error, "not watched");
            }
        }
    }

    /// Waits for a report, and takes all that are there: which file it was does not matter. Cancel-safe: what has not been
    /// taken is there at the next call.
    pub(crate) async fn next(&mut self) {
        let Ok(mut ready) = self.0.readable().await else { return };
        let mut events = [0_u8; 4096];
        loop {
            match rustix::io::read(ready.get_inner(), &mut events) {
                Ok(0) | Err(rustix::io::Errno::WOULDBLOCK) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::debug!(%error, "reading reports of changes");
                    break;
                }
            }
        }
        ready.clear_ready();
    }
}

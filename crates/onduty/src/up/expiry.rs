//! Says in time what will run out: each step once in the journal, and as a warning as long as it lasts.

use std::collections::BTreeSet;
use std::time::Duration;

use certificate_trust::{BundleReceiver, Expiring, Fingerprint, Urgency, expiring};
use failover_core::{Event, EventCode, Severity, Warning};
use journal::JournalHandle;
use service_kit::Clock;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How often the clock is looked at; a change of the certificates is looked at when it comes.
const EVERY: Duration = Duration::from_secs(3600);

/// Follows the bundles until `stop`. Must be called inside a runtime.
pub(crate) fn watch(
    mut bundles: BundleReceiver,
    clock: Clock,
    journal: JournalHandle,
    stop: CancellationToken,
) -> watch::Receiver<Vec<Warning>> {
    let (warnings, receiver) = watch::channel(Vec::new());
    let watching = async move {
        // As many as there are certificates: what is gone from the bundle is forgotten.
        let mut said: BTreeSet<(Fingerprint, Urgency)> = BTreeSet::new();
        loop {
            let found = expiring(&bundles.borrow_and_update(), clock.now().unix);
            for news in found.iter().filter(|found| !said.contains(&(found.subject, found.urgency))) {
                let severity = severity(news.urgency);
                journal.record(Event::plain(EventCode::CertificateExpires, severity, news.sentence.clone()));
            }
            said = found.iter().map(|found| (found.subject, found.urgency)).collect();
            let _changed = warnings.send_if_modified(|last| {
                let fresh: Vec<Warning> = found.into_iter().map(warning).collect();
                let changed = *last != fresh;
                *last = fresh;
                changed
            });
            // An error is one of nobody sending bundles any more; an hour without one is the other end of the wait.
            if let Ok(Err(_closed)) = timeout(EVERY, bundles.changed()).await {
                return;
            }
        }
    };
    let _detached = tokio::spawn(stop.run_until_cancelled_owned(watching));
    receiver
}

const fn severity(urgency: Urgency) -> Severity {
    if urgency.is_pressing() { Severity::Error } else { Severity::Warn }
}

fn warning(found: Expiring) -> Warning {
    let Expiring { urgency, sentence, .. } = found;
    Warning { code: EventCode::CertificateExpires, severity: severity(urgency), sentence }
}

//! The connection test: the same dial, step by step, with a word to each step. It joins nothing: the listening node is
//! told that it is a test, and tells its driver nothing.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use certificate_trust::KeySlot;
use failover_core::{Report, timing};
use onduty_api::heartbeat::{ListenFrame, TestStep, TestVerdict};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::dial::Dialler;
use crate::failure::{Failure, Stage};
use crate::network::Network;
use crate::prove::Session;

/// How many steps a test has.
pub(crate) const STEPS: usize = 10;
/// The steps, in order.
const NAMES: [&str; STEPS] =
    ["address", "name", "tcp", "tls", "trust", "key", "role", "timing", "version", "project"];

/// One test.
pub(crate) struct Test<'a, N> {
    pub(crate) dialler: &'a Dialler<N>,
    pub(crate) trusts_all: bool,
    pub(crate) limit: Duration,
    pub(crate) interval: Duration,
    pub(crate) steps: mpsc::Sender<TestStep>,
}

/// A step could not be done, or nobody listens any more.
struct Stop;

impl<N: Network> Test<'_, N> {
    /// Does every step; after a failed one the rest is skipped.
    pub(crate) async fn run(self) {
        let done = self.steps.max_capacity() - self.steps.capacity();
        debug_assert_eq!(done, 0, "a test has a channel of its own");
        // Err: the failed and the skipped steps have been told.
        let _ = self.walk().await;
    }

    async fn walk(&self) -> Result<(), Stop> {
        let begun = Instant::now();
        let found = format!("the address is {}", self.dialler.address);
        self.say("address", TestVerdict::Passed, found, "", begun).await?;

        let addresses = self.names().await?;
        let (remote, io) = self.tcp(&addresses).await?;
        let begun = Instant::now();
        let secured = match self.within(remote, Stage::Tls, self.dialler.secure(remote, io)).await {
            Ok(secured) => secured,
            Err(failure) if failure.stage == Stage::Trust => {
                let found = "TLS 1.3 is spoken".to_owned();
                self.say("tls", TestVerdict::Passed, found, "", begun).await?;
                return self.fail("trust", &failure, begun).await;
            }
            Err(failure) => return self.fail("tls", &failure, begun).await,
        };
        self.say("tls", TestVerdict::Passed, "TLS 1.3 is spoken".to_owned(), "", begun).await?;
        self.trust(begun).await?;

        let begun = Instant::now();
        let mut session =
            match self.within(remote, Stage::Key, self.dialler.prove(remote, secured, true)).await {
                Ok(session) => session,
                Err(failure) => return self.fail("key", &failure, begun).await,
            };
        let which = match session.slot {
            KeySlot::Current => "key",
            KeySlot::Previous => "previous key",
        };
        let found = format!("`{}` knows the {which}", session.peer.identity.name);
        self.say("key", TestVerdict::Passed, found, "", begun).await?;
        self.role(&session).await?;
        let begun = Instant::now();
        match self.within(remote, Stage::Key, first_report(&mut session)).await {
            Ok(report) => self.compare(&report, begun).await,
            Err(failure) => self.fail("timing", &failure, begun).await,
        }
    }

    async fn names(&self) -> Result<Vec<SocketAddr>, Stop> {
        let begun = Instant::now();
        let failure = match timeout_at(begun + self.limit, self.dialler.resolver.addresses()).await {
            Ok(Ok(addresses)) => {
                let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
                let found = format!("`{}` is {}", self.dialler.address.host(), list.join(", "));
                self.say("name", TestVerdict::Passed, found, "", begun).await?;
                return Ok(addresses);
            }
            Ok(Err(trouble)) => Failure::name(trouble),
            Err(_elapsed) => Failure::name("looking up the name took too long".to_owned()),
        };
        self.fail("name", &failure, begun).await?;
        Err(Stop)
    }

    async fn tcp(&self, addresses: &[SocketAddr]) -> Result<(SocketAddr, N::Io), Stop> {
        let begun = Instant::now();
        let mut last = None;
        for remote in addresses {
            match self.within(*remote, Stage::Tcp, self.dialler.connect(*remote)).await {
                Ok(io) => {
                    let verdict = if last.is_some() { TestVerdict::Warned } else { TestVerdict::Passed };
                    let failed =
                        last.map_or_else(String::new, |failure: Failure| format!("; {}", failure.sentence()));
                    let hint = if failed.is_empty() {
                        ""
                    } else {
                        "Not every address of the name leads to the other node."
                    };
                    self.say("tcp", verdict, format!("{remote} accepts connections{failed}"), hint, begun)
                        .await?;
                    return Ok((*remote, io));
                }
                Err(failure) => last = Some(failure),
            }
        }
        let failure = last.unwrap_or_else(|| Failure::name("the name has no address".to_owned()));
        self.fail("tcp", &failure, begun).await?;
        Err(Stop)
    }

    async fn trust(&self, begun: Instant) -> Result<(), Stop> {
        if self.trusts_all {
            let found = "every certificate is accepted (`redundancy.trust = \"all\"`)".to_owned();
            let hint = "Trust the other node's certificate alone: `redundancy.trust = \"store\"`.";
            self.say("trust", TestVerdict::Warned, found, hint, begun).await
        } else {
            let found = "the certificate is trusted".to_owned();
            self.say("trust", TestVerdict::Passed, found, "", begun).await
        }
    }

    async fn role(&self, session: &Session) -> Result<(), Stop> {
        let begun = Instant::now();
        let (own, peer) = (self.dialler.link.own(), &session.peer);
        let found =
            format!("this node is the {}, the other one the {} (mode {})", own.role, peer.role, peer.mode);
        if peer.mode.role().is_none() {
            let hint = "The other node runs its plugins without redundancy: set its `redundancy.mode`.";
            return self.say("role", TestVerdict::Warned, found, hint, begun).await;
        }
        if peer.role == own.role {
            let hint =
                "One node must be the primary and the other the secondary: change `redundancy.mode` of one.";
            return self.say("role", TestVerdict::Warned, found, hint, begun).await;
        }
        self.say("role", TestVerdict::Passed, found, "", begun).await
    }

    /// The last three steps, from what the other node reports.
    async fn compare(&self, report: &Report, begun: Instant) -> Result<(), Stop> {
        let timeout = report.timings.takeover_after;
        let found = format!("a heartbeat every {:?}, a timeout of {timeout:?} there", self.interval);
        match timing::guard_deadline(self.interval, timeout) {
            Err(why) => {
                let hint =
                    "Shorten `redundancy.secondary.interval` or lengthen `redundancy.primary.timeout`.";
                self.say("timing", TestVerdict::Warned, format!("{found}: {why}"), hint, begun).await?;
            }
            Ok(_) if self.interval * 3 > timeout => {
                let hint =
                    "The timeout should be at least three intervals, or one lost heartbeat is an alarm.";
                self.say("timing", TestVerdict::Warned, found, hint, begun).await?;
            }
            Ok(_) => self.say("timing", TestVerdict::Passed, found, "", begun).await?,
        }
        let own = self.dialler.link.outgoing().borrow().report.summary.clone();
        let peer = &report.summary;
        let same = own.version == peer.version;
        let found = format!("this node runs onduty {}, the other one {}", own.version, peer.version);
        let hint = if same { "" } else { "Different versions are for the time of an upgrade only." };
        self.say("version", passed_if(same), found, hint, begun).await?;
        let same = own.project == peer.project;
        let (found, hint) = if same {
            ("both nodes have the same plugins", "")
        } else {
            (
                "the plugins of the two nodes are not defined alike",
                "Compare the plugin definitions: after a failover something else would run.",
            )
        };
        self.say("project", passed_if(same), found.to_owned(), hint, begun).await
    }

    async fn within<T>(
        &self,
        remote: SocketAddr,
        stage: Stage,
        step: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + self.limit;
        timeout_at(deadline, step).await.map_err(|_elapsed| Failure::timed_out(remote, stage))?
    }

    /// Err: nobody listens any more.
    async fn say(
        &self,
        step: &'static str,
        verdict: TestVerdict,
        found: String,
        hint: &str,
        begun: Instant,
    ) -> Result<(), Stop> {
        let step = TestStep { step, verdict, found, hint: hint.to_owned(), took: begun.elapsed() };
        self.steps.send(step).await.map_err(|_closed| Stop)
    }

    /// The step has failed and the later ones are skipped.
    async fn fail(&self, step: &'static str, failure: &Failure, begun: Instant) -> Result<(), Stop> {
        self.say(step, TestVerdict::Failed, failure.sentence().to_owned(), failure.hint, begun).await?;
        for later in NAMES.into_iter().skip_while(|name| *name != step).skip(1) {
            let found = format!("not tried, because `{step}` failed");
            self.say(later, TestVerdict::Skipped, found, "", Instant::now()).await?;
        }
        Err(Stop)
    }
}

const fn passed_if(same: bool) -> TestVerdict {
    if same { TestVerdict::Passed } else { TestVerdict::Warned }
}

/// The one beat that a test is owed.
async fn first_report(session: &mut Session) -> Result<Report, Failure> {
    let remote = session.remote;
    let response = session.inbox.message().await.map_err(|status| Failure::status(remote, &status))?;
    let response = response.ok_or_else(|| Failure::ended(remote))?;
    match ListenFrame::try_from(response).map_err(|invalid| Failure::invalid(remote, &invalid))? {
        ListenFrame::Beat(beat) => Ok(beat.report),
        ListenFrame::Challenge(_) | ListenFrame::Proof(_) => Err(Failure::out_of_order(remote)),
    }
}

//! The connection test: the same dial, step by step, with a word to each step. It joins nothing: the listening node is
//! told that it is a test, and tells its driver nothing.
//!
//! ```text
//!   address ─ name ─ tcp ─ tls ─ trust ─ key ─┬─ role ─ timing ─ version ─ clock ─ project
//!   └──── the rest rests on each of these ────┘  └── judged one by one: see `compare` ──┘
//! ```
//!
//! One [`Test`] tries one address. Each step has a bound of its own, longer than a dial of the running link has: a peer
//! that is only slow is then told apart from one that is silent.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use certificate_trust::KeySlot;
use failover_core::EventCode;
use onduty_api::heartbeat::{TestAnswer, TestStep, TestVerdict};
use service_kit::Clock;
use service_kit::codes::Code;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::compare::{self, Finding};
use crate::dial::Dialler;
use crate::failure::{Failure, Stage};
use crate::network::Network;
use crate::prove::Session;

/// The steps, in order.
const NAMES: [&str; 11] =
    ["address", "name", "tcp", "tls", "trust", "key", "role", "timing", "version", "clock", "project"];
/// How many steps a test of one address has.
pub(crate) const STEPS: usize = NAMES.len();
/// How long a step waits: what the longest dial has for everything.
const STEP_LIMIT: Duration = Duration::from_secs(5);
/// How long the addresses of a name share for TCP.
const TCP_LIMIT: Duration = Duration::from_secs(10);

/// One test of one address.
pub(crate) struct Test<'a, N> {
    pub(crate) dialler: &'a Dialler<N>,
    pub(crate) trusts_all: bool,
    /// What a dial of the running link has from TCP to the proof.
    pub(crate) dial_limit: Duration,
    pub(crate) clock: &'a Clock,
    pub(crate) steps: &'a mpsc::Sender<TestStep>,
}

/// A step could not be done, or nobody listens any more.
struct Stop;

impl<N: Network> Test<'_, N> {
    /// Does every step; after one on which the rest rests has failed, the rest is skipped.
    pub(crate) async fn run(self) {
        // Err: the failed and the skipped steps have been told.
        let _ = self.walk().await;
    }

    async fn walk(&self) -> Result<(), Stop> {
        let begun = Instant::now();
        self.pass("address", format!("the address is {}", self.dialler.address), begun).await?;
        let addresses = self.names().await?;
        let (remote, io) = self.tcp(&addresses).await?;

        let dialled = Instant::now();
        let secured = match self.within(remote, Stage::Tls, self.dialler.secure(remote, io)).await {
            Ok(secured) => secured,
            Err(failure) if failure.stage == Stage::Trust => {
                self.pass("tls", "TLS 1.3 is spoken".to_owned(), dialled).await?;
                return self.fail("trust", &failure, dialled).await;
            }
            Err(failure) => return self.fail("tls", &failure, dialled).await,
        };
        self.pass("tls", "TLS 1.3 is spoken".to_owned(), dialled).await?;
        self.trust().await?;

        let begun = Instant::now();
        let asked_at = self.clock.unix_millis();
        let mut session =
            match self.within(remote, Stage::Key, self.dialler.prove(remote, secured, true)).await {
                Ok(session) => session,
                Err(failure) => return self.fail("key", &failure, begun).await,
            };
        self.key(&session, begun, dialled.elapsed()).await?;
        let begun = Instant::now();
        let (role, mode) = (session.peer.role, session.peer.mode);
        self.judged(compare::role(&self.dialler.link.own(), role, mode), begun).await?;
        let begun = Instant::now();
        match self.within(remote, Stage::Report, first_answer(&mut session)).await {
            Ok(answer) => self.compare(&answer, asked_at, begun).await,
            Err(failure) => self.fail("timing", &failure, begun).await,
        }
    }

    async fn names(&self) -> Result<Vec<SocketAddr>, Stop> {
        let begun = Instant::now();
        let failure = match timeout_at(begun + STEP_LIMIT, self.dialler.resolver.addresses()).await {
            Ok(Ok(addresses)) => {
                let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
                let found = format!("`{}` is {}", self.dialler.address.host(), list.join(", "));
                self.pass("name", found, begun).await?;
                return Ok(addresses);
            }
            Ok(Err(trouble)) => Failure::name(trouble),
            Err(_elapsed) => Failure::name(format!(
                "looking up `{}` brought no answer within {STEP_LIMIT:?}",
                self.dialler.address.host()
            )),
        };
        self.fail("name", &failure, begun).await?;
        Err(Stop)
    }

    async fn tcp(&self, addresses: &[SocketAddr]) -> Result<(SocketAddr, N::Io), Stop> {
        let begun = Instant::now();
        let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let limit = STEP_LIMIT.min(TCP_LIMIT / count);
        let mut last: Option<Failure> = None;
        for remote in addresses {
            let connected = timeout_at(Instant::now() + limit, self.dialler.connect(*remote)).await;
            match connected.unwrap_or_else(|_elapsed| Err(Failure::waited(*remote, Stage::Tcp, limit))) {
                Ok(io) => {
                    let found = format!("{remote} accepts connections");
                    let step = match &last {
                        None => Finding::good("tcp", found),
                        Some(failure) => Finding {
                            step: "tcp",
                            verdict: TestVerdict::Warned,
                            code: failure.code,
                            found: format!("{found}; {}", failure.sentence()),
                            hint: "Not every address of the name leads to the other node.",
                        },
                    };
                    self.judged(step, begun).await?;
                    return Ok((*remote, io));
                }
                Err(failure) => last = Some(failure),
            }
        }
        let failure = last.unwrap_or_else(|| Failure::name("the name has no address".to_owned()));
        self.fail("tcp", &failure, begun).await?;
        Err(Stop)
    }

    async fn trust(&self) -> Result<(), Stop> {
        let begun = Instant::now();
        let step = if self.trusts_all {
            Finding {
                step: "trust",
                verdict: TestVerdict::Warned,
                code: EventCode::UnsafeSetting.as_str(),
                found: "every certificate is accepted (`redundancy.secondary.trust = \"all\"`)".to_owned(),
                hint: "Trust the other node's certificate alone: `redundancy.secondary.trust = \"store\"`.",
            }
        } else {
            Finding::good("trust", "the certificate is trusted".to_owned())
        };
        self.judged(step, begun).await
    }

    /// The proof was right. Whether it came in time for the running link is told with it: the test is more patient.
    async fn key(&self, session: &Session, begun: Instant, dialled: Duration) -> Result<(), Stop> {
        let which = match session.key.slot {
            KeySlot::Current => "key",
            KeySlot::Previous => "previous key",
            KeySlot::Next => "next key",
        };
        let found = format!("`{}` knows the {which}", session.peer.identity.name);
        let limit = self.dial_limit;
        let step = if dialled <= limit {
            Finding::good("key", found)
        } else {
            Finding {
                step: "key",
                // Measured once, it proves nothing: the session beside it may well stand.
                verdict: TestVerdict::Warned,
                code: Code::LinkSlow.as_str(),
                found: format!(
                    "{found}, but TLS and proof took {} ms and the link has {} ms for them",
                    dialled.as_millis(),
                    limit.as_millis()
                ),
                hint: "Find out what is slow (load, network, name servers), or choose a longer `redundancy.primary.timeout`.",
            }
        };
        self.judged(step, begun).await
    }

    /// What the other node tells of itself beside what this one goes by.
    async fn compare(&self, answer: &TestAnswer, asked_at: u64, begun: Instant) -> Result<(), Stop> {
        let told_at = self.clock.unix_millis();
        let own = self.dialler.link.outgoing().get().report;
        self.judged(compare::timing(&own, &answer.report), begun).await?;
        let steps = [
            compare::version(&own, &answer.report),
            compare::clock(answer.unix_ms, asked_at, told_at),
            compare::project(&own, &answer.report),
        ];
        for step in steps {
            self.judged(step, Instant::now()).await?;
        }
        Ok(())
    }

    async fn within<T>(
        &self,
        remote: SocketAddr,
        stage: Stage,
        step: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + STEP_LIMIT;
        timeout_at(deadline, step).await.map_err(|_elapsed| Failure::waited(remote, stage, STEP_LIMIT))?
    }

    async fn pass(&self, step: &'static str, found: String, begun: Instant) -> Result<(), Stop> {
        self.judged(Finding::good(step, found), begun).await
    }

    /// Err: nobody listens any more.
    async fn judged(&self, finding: Finding, begun: Instant) -> Result<(), Stop> {
        let Finding { step, verdict, code, found, hint } = finding;
        let (address, hint, took) = (self.dialler.address.to_string(), hint.to_owned(), begun.elapsed());
        let step = TestStep { address, step, verdict, code, found, hint, took };
        self.steps.send(step).await.map_err(|_closed| Stop)
    }

    /// The step has failed and the later ones are skipped.
    async fn fail(&self, step: &'static str, failure: &Failure, begun: Instant) -> Result<(), Stop> {
        let found = failure.sentence().to_owned();
        let failed =
            Finding { step, verdict: TestVerdict::Failed, code: failure.code, found, hint: failure.hint };
        self.judged(failed, begun).await?;
        for later in NAMES.into_iter().skip_while(|name| *name != step).skip(1) {
            self.judged(
                Finding::skipped(later, format!("not tried, because `{step}` failed")),
                Instant::now(),
            )
            .await?;
        }
        Err(Stop)
    }
}

/// The one beat that a test is owed.
async fn first_answer(session: &mut Session) -> Result<TestAnswer, Failure> {
    let remote = session.remote;
    let response = session.inbox.message().await.map_err(|status| Failure::status(remote, &status))?;
    let response = response.ok_or_else(|| Failure::ended(remote))?;
    TestAnswer::read(response)
        .map_err(|invalid| Failure::invalid(remote, &invalid))?
        .ok_or_else(|| Failure::out_of_order(remote))
}

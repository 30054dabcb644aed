//! `onduty.heartbeat.v1`: the frames of the link in domain words, and the book-keeping of a session's beats.
//!
//! ```text
//!   dialling node                      listening node
//!   Hello        ───────────────────►
//!                ◄───────────────────  Challenge
//!   ClientProof  ───────────────────►
//!                ◄───────────────────  ServerProof
//!   Beat 1, 2, … ◄──────────────────►  Beat 1, 2, …      (Ledger, on both ends)
//! ```

use core::time::Duration;

use failover_core::{Beat, BootTime, Identity, Mode, PathId, Report, Role};
use prost::Message;
use thiserror::Error;

use crate::invalid::{Invalid, bytes, clip, required, text, to_duration};
use crate::types;
use crate::wire::heartbeat::v1 as wire;

/// The oldest version of the protocol this build speaks.
pub const OLDEST_VERSION: u32 = 1;
/// The newest.
pub const NEWEST_VERSION: u32 = 1;
/// The longest name of a pair, in bytes.
pub const MAX_PAIR: usize = 128;
/// The most keys a node offers: the current one and, during a rotation, the previous one.
pub const MAX_KEYS: usize = 2;

/// What the dialling node says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest version it speaks.
    pub min_version: u32,
    /// The newest.
    pub max_version: u32,
    /// The pair's name.
    pub pair: String,
    /// Who it is.
    pub identity: Identity,
    /// Its configured role.
    pub role: Role,
    /// Its configured mode.
    pub mode: Mode,
    /// Fresh random bytes.
    pub nonce: [u8; 32],
    /// Whether it binds the proof to the TLS connection.
    pub channel_bound: bool,
    /// A connection test: one beat, no session.
    pub test_only: bool,
    /// Which of its network paths this is.
    pub path: PathId,
    /// How many it has: more than the number of `path`, and at most [`PathId::MOST`].
    pub paths: usize,
}

impl Hello {
    /// The bytes that are sent, and that both ends hash.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        wire::Hello {
            min_version: self.min_version,
            max_version: self.max_version,
            pair: clip(self.pair, MAX_PAIR),
            identity: Some(self.identity.into()),
            role: crate::wire::types::v1::Role::from(self.role) as i32,
            mode: crate::wire::types::v1::Mode::from(self.mode) as i32,
            nonce: self.nonce.to_vec(),
            channel_bound: self.channel_bound,
            test_only: self.test_only,
            path: u32::from(u8::from(self.path)),
            paths: u32::try_from(self.paths).unwrap_or(u32::MAX),
        }
        .encode_to_vec()
    }

    /// Reads the received bytes.
    ///
    /// # Errors
    ///
    /// When they are no Hello or break a rule.
    pub fn decode(received: &[u8]) -> Result<Self, Invalid> {
        let hello =
            wire::Hello::decode(received).map_err(|_| Invalid::new("hello", "is not a Hello message"))?;
        let identity = required("identity", hello.identity)?;
        if hello.min_version > hello.max_version {
            return Err(Invalid::new("min_version", "must not be above `max_version`"));
        }
        let path = u8::try_from(hello.path).ok().and_then(|path| PathId::try_from(path).ok());
        let path = path.ok_or_else(|| Invalid::new("path", format!("must be 0 to {}", PathId::MOST - 1)))?;
        let paths = usize::try_from(hello.paths).unwrap_or(usize::MAX);
        if paths > PathId::MOST {
            return Err(Invalid::new("paths", format!("must be at most {}", PathId::MOST)));
        }
        Ok(Self {
            min_version: hello.min_version,
            max_version: hello.max_version,
            pair: text("pair", hello.pair, MAX_PAIR)?,
            identity: identity.try_into().map_err(|e: Invalid| e.within("identity"))?,
            role: types::role(hello.role)?,
            mode: types::mode(hello.mode)?,
            nonce: bytes("nonce", &hello.nonce)?,
            channel_bound: hello.channel_bound,
            test_only: hello.test_only,
            path,
            paths: paths.max(path.index() + 1),
        })
    }

    /// The highest version that this build and the dialling node both speak.
    #[must_use]
    pub fn common_version(&self) -> Option<u32> {
        let common = self.max_version.min(NEWEST_VERSION);
        (common >= self.min_version && common >= OLDEST_VERSION).then_some(common)
    }
}

/// What the listening node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The version both will speak; 0 when there is none.
    pub version: u32,
    /// Who it is.
    pub identity: Identity,
    /// Its configured role.
    pub role: Role,
    /// Its configured mode.
    pub mode: Mode,
    /// Fresh random bytes.
    pub nonce: [u8; 32],
}

impl Challenge {
    /// The bytes that are sent, and that both ends hash.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        wire::Challenge {
            version: self.version,
            identity: Some(self.identity.into()),
            role: crate::wire::types::v1::Role::from(self.role) as i32,
            mode: crate::wire::types::v1::Mode::from(self.mode) as i32,
            nonce: self.nonce.to_vec(),
        }
        .encode_to_vec()
    }

    /// Reads the received bytes.
    ///
    /// # Errors
    ///
    /// When they are no Challenge or break a rule.
    pub fn decode(received: &[u8]) -> Result<Self, Invalid> {
        let challenge = wire::Challenge::decode(received)
            .map_err(|_| Invalid::new("challenge", "is not a Challenge message"))?;
        let identity = required("identity", challenge.identity)?;
        Ok(Self {
            version: challenge.version,
            identity: identity.try_into().map_err(|e: Invalid| e.within("identity"))?,
            role: types::role(challenge.role)?,
            mode: types::mode(challenge.mode)?,
            nonce: bytes("nonce", &challenge.nonce)?,
        })
    }
}

/// The dialling node's proofs, one per key it accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientProofs {
    /// Newest key first, 1 or 2.
    pub proofs: Vec<[u8; 32]>,
    /// In the same order, without the TLS connection.
    pub key_checks: Vec<[u8; 32]>,
}

impl From<ClientProofs> for wire::ClientProof {
    fn from(proofs: ClientProofs) -> Self {
        let bytes = |macs: Vec<[u8; 32]>| macs.into_iter().take(MAX_KEYS).map(|mac| mac.to_vec()).collect();
        Self { proofs: bytes(proofs.proofs), key_checks: bytes(proofs.key_checks) }
    }
}

impl TryFrom<wire::ClientProof> for ClientProofs {
    type Error = Invalid;

    fn try_from(proof: wire::ClientProof) -> Result<Self, Invalid> {
        if !(1..=MAX_KEYS).contains(&proof.proofs.len()) {
            return Err(Invalid::new("proofs", "must be 1 or 2"));
        }
        if proof.key_checks.len() != proof.proofs.len() {
            return Err(Invalid::new("key_checks", "must be as many as `proofs`"));
        }
        let macs = |field: &str, list: &[Vec<u8>]| -> Result<Vec<[u8; 32]>, Invalid> {
            list.iter().map(|mac| bytes(field, mac)).collect()
        };
        Ok(Self {
            proofs: macs("proofs", &proof.proofs)?,
            key_checks: macs("key_checks", &proof.key_checks)?,
        })
    }
}

/// The listening node's proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerProof {
    /// The proof under the key that matched.
    pub proof: [u8; 32],
    /// Which of the client's proofs matched.
    pub matched: usize,
}

impl From<ServerProof> for wire::ServerProof {
    fn from(proof: ServerProof) -> Self {
        Self { proof: proof.proof.to_vec(), matched: u32::try_from(proof.matched).unwrap_or(u32::MAX) }
    }
}

impl TryFrom<wire::ServerProof> for ServerProof {
    type Error = Invalid;

    fn try_from(proof: wire::ServerProof) -> Result<Self, Invalid> {
        let matched = usize::try_from(proof.matched).ok().filter(|index| *index < MAX_KEYS);
        let matched = matched.ok_or_else(|| Invalid::new("matched", "must be 0 or 1"))?;
        Ok(Self { proof: bytes("proof", &proof.proof)?, matched })
    }
}

impl From<Beat> for wire::Beat {
    fn from(beat: Beat) -> Self {
        Self {
            sequence: beat.sequence,
            stamp_ns: beat.stamp.as_nanos(),
            echo_ns: beat.echo.map(BootTime::as_nanos),
            report: Some(beat.report.into()),
            unix_ms: None,
        }
    }
}

impl TryFrom<wire::Beat> for Beat {
    type Error = Invalid;

    fn try_from(beat: wire::Beat) -> Result<Self, Invalid> {
        let report = required("report", beat.report)?;
        Ok(Self {
            sequence: beat.sequence,
            stamp: BootTime::from_nanos(beat.stamp_ns),
            echo: beat.echo_ns.map(BootTime::from_nanos),
            report: Report::try_from(report).map_err(|e| e.within("report"))?,
        })
    }
}

/// One frame from the dialling node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialFrame {
    /// First; still as bytes, because both ends hash them as they were sent.
    Hello(Vec<u8>),
    /// Third.
    Proof(ClientProofs),
    /// From the fifth on.
    Beat(Box<Beat>),
}

impl From<DialFrame> for wire::SessionRequest {
    fn from(frame: DialFrame) -> Self {
        use wire::session_request::Frame;
        let frame = match frame {
            DialFrame::Hello(hello) => Frame::Hello(hello),
            DialFrame::Proof(proofs) => Frame::Proof(proofs.into()),
            DialFrame::Beat(beat) => Frame::Beat((*beat).into()),
        };
        Self { frame: Some(frame) }
    }
}

impl TryFrom<wire::SessionRequest> for DialFrame {
    type Error = Invalid;

    fn try_from(request: wire::SessionRequest) -> Result<Self, Invalid> {
        use wire::session_request::Frame;
        Ok(match required("frame", request.frame)? {
            Frame::Hello(hello) => Self::Hello(hello),
            Frame::Proof(proofs) => Self::Proof(proofs.try_into().map_err(|e: Invalid| e.within("proof"))?),
            Frame::Beat(beat) => {
                Self::Beat(Box::new(beat.try_into().map_err(|e: Invalid| e.within("beat"))?))
            }
        })
    }
}

/// One frame from the listening node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenFrame {
    /// Second; still as bytes.
    Challenge(Vec<u8>),
    /// Fourth.
    Proof(ServerProof),
    /// From the fifth on.
    Beat(Box<Beat>),
}

impl From<ListenFrame> for wire::SessionResponse {
    fn from(frame: ListenFrame) -> Self {
        use wire::session_response::Frame;
        let frame = match frame {
            ListenFrame::Challenge(challenge) => Frame::Challenge(challenge),
            ListenFrame::Proof(proof) => Frame::Proof(proof.into()),
            ListenFrame::Beat(beat) => Frame::Beat((*beat).into()),
        };
        Self { frame: Some(frame) }
    }
}

impl TryFrom<wire::SessionResponse> for ListenFrame {
    type Error = Invalid;

    fn try_from(response: wire::SessionResponse) -> Result<Self, Invalid> {
        use wire::session_response::Frame;
        Ok(match required("frame", response.frame)? {
            Frame::Challenge(challenge) => Self::Challenge(challenge),
            Frame::Proof(proof) => Self::Proof(proof.try_into().map_err(|e: Invalid| e.within("proof"))?),
            Frame::Beat(beat) => {
                Self::Beat(Box::new(beat.try_into().map_err(|e: Invalid| e.within("beat"))?))
            }
        })
    }
}

/// Why a beat ends its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Disorder {
    /// Its sequence number did not grow.
    #[error("its sequence number {received} does not follow {newest}")]
    Sequence {
        /// The newest before.
        newest: u64,
        /// What came.
        received: u64,
    },
    /// The sender's clock went back.
    #[error("its stamp is older than the one before")]
    Stamp,
    /// It echoes a stamp that was never sent in this session.
    #[error("it echoes a stamp that was not sent in this session")]
    Echo,
    /// It comes from another node, or another run of the node, than the one that proved the key.
    #[error("it speaks for another node or run than the one that proved the key")]
    Identity,
}

/// The book-keeping of one session's beats: numbers and stamps the own ones, checks the peer's.
#[derive(Clone, Debug)]
pub struct Ledger {
    peer: Identity,
    /// Number of own beats so far; the next one has this plus one.
    sent: u64,
    /// The oldest and newest own stamp.
    stamps: Option<(BootTime, BootTime)>,
    /// Sequence number and stamp of the peer's newest beat.
    newest: Option<(u64, BootTime)>,
}

impl Ledger {
    /// For a session with the peer that has just proved the key.
    #[must_use]
    pub const fn new(peer: Identity) -> Self {
        Self { peer, sent: 0, stamps: None, newest: None }
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> &Identity {
        &self.peer
    }

    /// Checks a beat of the peer and remembers its stamp for the next echo.
    ///
    /// # Errors
    ///
    /// When it cannot be a beat of this session; the session must then be closed.
    pub fn receive(&mut self, beat: &Beat) -> Result<(), Disorder> {
        let identity = &beat.report.identity;
        if (identity.node, identity.instance) != (self.peer.node, self.peer.instance) {
            return Err(Disorder::Identity);
        }
        let (newest, stamp) = self.newest.unwrap_or((0, BootTime::ZERO));
        if beat.sequence <= newest {
            return Err(Disorder::Sequence { newest, received: beat.sequence });
        }
        if beat.stamp < stamp {
            return Err(Disorder::Stamp);
        }
        let in_session = |echo| self.stamps.is_some_and(|(oldest, newest)| oldest <= echo && echo <= newest);
        if beat.echo.is_some_and(|echo| !in_session(echo)) {
            return Err(Disorder::Echo);
        }
        self.newest = Some((beat.sequence, beat.stamp));
        Ok(())
    }

    /// The next own beat, to be sent at once.
    pub fn next(&mut self, now: BootTime, report: Report) -> Beat {
        self.sent += 1;
        self.stamps = Some((self.stamps.map_or(now, |(oldest, _)| oldest), now));
        Beat { sequence: self.sent, stamp: now, echo: self.newest.map(|(_, stamp)| stamp), report }
    }
}

/// The one beat that answers a connection test, with the wall clock that no other beat carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestAnswer {
    /// What the listening node says of itself.
    pub report: Report,
    /// Its wall clock, in milliseconds since 1970; `None` from a version that does not tell it.
    pub unix_ms: Option<u64>,
}

impl TestAnswer {
    /// The frame that the listening node sends.
    #[must_use]
    pub fn frame(beat: Beat, unix_ms: u64) -> wire::SessionResponse {
        let beat = wire::Beat { unix_ms: Some(unix_ms), ..beat.into() };
        wire::SessionResponse { frame: Some(wire::session_response::Frame::Beat(beat)) }
    }

    /// Reads the frame; `None` when it is another one than a beat.
    ///
    /// # Errors
    ///
    /// When it is empty or breaks a rule.
    pub fn read(response: wire::SessionResponse) -> Result<Option<Self>, Invalid> {
        use wire::session_response::Frame;
        match required("frame", response.frame)? {
            Frame::Beat(beat) => {
                let unix_ms = beat.unix_ms;
                let beat = Beat::try_from(beat).map_err(|e| e.within("beat"))?;
                Ok(Some(Self { report: beat.report, unix_ms }))
            }
            Frame::Challenge(_) | Frame::Proof(_) => Ok(None),
        }
    }
}

/// How a step of a connection test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestVerdict {
    /// As it should be.
    Passed,
    /// It works, but.
    Warned,
    /// It does not work; steps that rest on it are not tried.
    Failed,
    /// Not tried, because an earlier step failed.
    Skipped,
}

/// One step of a connection test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestStep {
    /// The address that is tried.
    pub address: String,
    /// Which: address, name, tcp, tls, trust, key, role, timing, version, clock, project.
    pub step: &'static str,
    /// How it ended.
    pub verdict: TestVerdict,
    /// What is wrong, for machines and for the manual; empty when nothing is.
    pub code: &'static str,
    /// What was found, as a sentence.
    pub found: String,
    /// How to mend it; empty when there is nothing to mend.
    pub hint: String,
    /// How long it took.
    pub took: Duration,
}

impl From<TestStep> for wire::TestResponse {
    fn from(step: TestStep) -> Self {
        use wire::test_response::Verdict;
        let verdict = match step.verdict {
            TestVerdict::Passed => Verdict::Passed,
            TestVerdict::Warned => Verdict::Warned,
            TestVerdict::Failed => Verdict::Failed,
            TestVerdict::Skipped => Verdict::Skipped,
        };
        Self {
            step: step.step.to_owned(),
            verdict: verdict as i32,
            found: step.found,
            hint: step.hint,
            took: Some(to_duration(step.took)),
            code: step.code.to_owned(),
            address: step.address,
        }
    }
}

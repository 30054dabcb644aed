//! The first four messages: is the other end the other half of the pair? Nothing it says is believed before.
//!
//! Whoever has not shown that it knows the key gets one answer for every cause; the cause goes to our journal.

use std::net::IpAddr;

use certificate_trust::proof::{self, Transcript};
use certificate_trust::{KeyFingerprint, KeySlot, TlsError};
use onduty_api::Invalid;
use onduty_api::errors::{Refusal, unauthenticated};
use onduty_api::heartbeat::{Challenge, ClientProofs, DialFrame, Hello, ListenFrame, ServerProof};
use onduty_api::wire::heartbeat::v1::{SessionRequest, SessionResponse};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::service::Shared;
use crate::session::Call;

/// The dialling node has proved the key.
pub(crate) struct Proved {
    /// What it said of itself.
    pub(crate) hello: Hello,
    /// With which key.
    pub(crate) key: ProvedKey,
    /// What it is owed.
    pub(crate) answer: ServerProof,
}

/// The key that a session was proved with.
pub(crate) struct ProvedKey {
    pub(crate) slot: KeySlot,
    pub(crate) fingerprint: KeyFingerprint,
    /// Of the accepted keys at that time.
    pub(crate) revision: u64,
    /// It is the one that the dialling node would rather use than another.
    pub(crate) is_first_choice: bool,
}

/// The dialling node is not let in.
pub(crate) enum Failure {
    /// It left, or the connection broke.
    Gone,
    /// It is answered.
    Refused {
        /// For the counters and the journal.
        code: &'static str,
        /// For the journal.
        sentence: String,
        /// For it.
        answer: Box<Status>,
    },
}

impl Failure {
    fn refused(code: &'static str, sentence: String, answer: Status) -> Self {
        Self::Refused { code, sentence, answer: Box::new(answer) }
    }

    /// It knows the key, so it learns the reason; what is behind that stays in our journal.
    fn unwanted(from: IpAddr, hello: &Hello, refusal: Refusal, why: Option<&TlsError>) -> Self {
        let why = why.map(|why| format!(": {why} [{}]", why.code())).unwrap_or_default();
        let sentence = format!("the node `{}` at {from} was refused: {refusal}{why}", hello.identity.name);
        Self::refused(refusal.code(), sentence, refusal.into())
    }

    fn invalid(from: IpAddr, invalid: Invalid) -> Self {
        let sentence = format!("a message from {from} before the proof breaks a rule: {invalid}");
        Self::refused("garbage", sentence, invalid.into())
    }
}

/// Receives Hello, sends the challenge, and checks the proofs; then the certificate, where one is asked for.
pub(crate) async fn authenticate(
    shared: &Shared,
    call: &Call,
    inbox: &mut Streaming<SessionRequest>,
    outbox: &mpsc::Sender<Result<SessionResponse, Status>>,
) -> Result<Proved, Failure> {
    let from = call.peer.ip();
    let hello_bytes = match receive(from, inbox).await? {
        DialFrame::Hello(bytes) => bytes,
        DialFrame::Proof(_) | DialFrame::Beat(_) => return Err(out_of_order(from, "Hello")),
    };
    let hello =
        Hello::decode(&hello_bytes).map_err(|invalid| Failure::invalid(from, invalid.within("hello")))?;
    let own = shared.link.own();
    let nonce =
        random().map_err(|status| Failure::refused("no_random", status.message().to_owned(), status))?;
    let challenge = Challenge {
        version: hello.common_version().unwrap_or(0),
        identity: own.identity.clone(),
        role: own.role,
        mode: own.mode,
        nonce,
    };
    let challenge_bytes = challenge.encode();
    let frame = ListenFrame::Challenge(challenge_bytes.clone()).into();
    outbox.send(Ok(frame)).await.map_err(|_closed| Failure::Gone)?;

    let proofs = match receive(from, inbox).await? {
        DialFrame::Proof(proofs) => proofs,
        DialFrame::Hello(_) | DialFrame::Beat(_) => return Err(out_of_order(from, "ClientProof")),
    };
    let transcript = Transcript {
        binding: &call.binding,
        channel_bound: shared.channel_bound,
        hello: &hello_bytes,
        challenge: &challenge_bytes,
        offered: proofs.proofs.len(),
    };
    let proved = judge(shared, from, hello, &proofs, &transcript)?;
    match shared.acceptor.judge(&call.shown).await {
        Ok(()) => Ok(proved),
        Err(why) => Err(Failure::unwanted(from, &proved.hello, Refusal::ClientCertificate, Some(&why))),
    }
}

fn judge(
    shared: &Shared,
    from: IpAddr,
    hello: Hello,
    proofs: &ClientProofs,
    transcript: &Transcript<'_>,
) -> Result<Proved, Failure> {
    let unfit = unfit(shared, &hello);
    // In this order: a session with keys that have changed meanwhile is looked at again.
    let (revision, keys) = (shared.keys.revision(), shared.keys.newest());
    let found = proof::find_match(transcript, &keys, &proofs.proofs);
    let refusal = match (found, unfit) {
        (Some(found), None) => {
            let key = keys.get(found.slot).ok_or(Failure::Gone)?;
            let matched = usize::try_from(found.proof).unwrap_or(usize::MAX);
            let answer = ServerProof { proof: proof::server_proof(transcript, key), matched };
            let is_first_choice = found.proof == 0;
            let (slot, fingerprint) = (found.slot, key.fingerprint());
            let key = ProvedKey { slot, fingerprint, revision, is_first_choice };
            return Ok(Proved { hello, key, answer });
        }
        (Some(_), Some(unfit)) => unfit,
        (None, unfit) => {
            if !proof::knows_key(transcript, &keys, &proofs.key_checks) {
                let sentence = format!("a connection from {from} could not prove the pre-shared key");
                return Err(Failure::refused("key_mismatch", sentence, unauthenticated()));
            }
            unfit.unwrap_or(Refusal::TlsTerminatedBetween)
        }
    };
    Err(Failure::unwanted(from, &hello, refusal, None))
}

/// What of Hello makes the node no peer, whether or not it knows the key.
fn unfit(shared: &Shared, hello: &Hello) -> Option<Refusal> {
    let own = shared.link.own().identity;
    if hello.common_version().is_none() {
        Some(Refusal::Version)
    } else if hello.identity.node == own.node || hello.identity.instance == own.instance {
        Some(Refusal::Selfie)
    } else if hello.pair != shared.pair {
        Some(Refusal::Pair)
    } else if hello.channel_bound != shared.channel_bound {
        Some(Refusal::ChannelBinding)
    } else {
        None
    }
}

/// Cancel-safe: a message half received stays in `inbox`.
async fn receive(from: IpAddr, inbox: &mut Streaming<SessionRequest>) -> Result<DialFrame, Failure> {
    match inbox.message().await {
        Ok(Some(request)) => DialFrame::try_from(request).map_err(|invalid| Failure::invalid(from, invalid)),
        Ok(None) => Err(Failure::Gone),
        // Made here, out of an error of the connection.
        Err(status) if std::error::Error::source(&status).is_some() => Err(Failure::Gone),
        Err(_unreadable) => {
            let sentence = format!("a message from {from} before the proof cannot be read");
            Err(Failure::refused("garbage", sentence, Status::invalid_argument("the message cannot be read")))
        }
    }
}

fn out_of_order(from: IpAddr, wanted: &str) -> Failure {
    let sentence = format!("a connection from {from} sent something else where {wanted} is due");
    Failure::refused("garbage", sentence, Status::invalid_argument(format!("{wanted} is due")))
}

fn random() -> Result<[u8; 32], Status> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Status::unavailable("the system gives no random bytes"))?;
    Ok(bytes)
}

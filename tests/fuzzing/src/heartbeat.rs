//! `heartbeat`: what a peer that has proved the key sends afterwards. The bytes are a frame of either direction, and a
//! whole conversation of them, which goes through the book-keeping of a session into the machine of either role.
//!
//! A proved peer is the other half of the pair, but it may be broken, or of another version: it must not bring this node
//! down, nor have it give its plugins a number that is not its own.

use core::time::Duration;

use failover_core::{
    Arbitration, Beat, BootTime, DutyOrder, Effect, Epoch, FailbackMode, Identity, Input, InstanceId,
    Machine, Memory, Mode, NodeId, NodeName, Now, OnUnproved, PathId, Report, Role, SessionId, Settings, Via,
};
use onduty_api::MAX_LINK_MESSAGE;
use onduty_api::heartbeat::{DialFrame, Ledger, ListenFrame, TestAnswer};
use onduty_api::wire::heartbeat::v1 as wire;
use onduty_api::wire::types::v1::NodeReport;
use prost::Message;

use crate::conversation::{dial_frame, frames, keeps_its_bounds, listen_frame, told};

/// When a session begins, and how far apart its beats come.
const BEGIN: BootTime = BootTime::from_millis(60_000);
const STEP: Duration = Duration::from_millis(250);
/// The Unix clock at `BEGIN`.
const UNIX: u64 = 1_790_000_000;
/// How long a machine is watched after the last beat, in deadlines of its own.
const DEADLINES: usize = 10;
/// Orders reach no further than this, the longest time that can be told: the guard must end the plugins of a node that stands
/// still.
const LONGEST_LEASE: Duration = Duration::from_secs(366 * 24 * 3600);

/// What a proved peer sends.
///
/// # Panics
///
/// When a promise of the link or of the machine is broken.
pub fn heartbeat(bytes: &[u8]) {
    // The link refuses longer messages before anybody decodes them.
    if bytes.len() > MAX_LINK_MESSAGE {
        return;
    }
    test_answer(bytes);
    let mut beats: Vec<Beat> = Vec::new();
    let mut frames = frames(bytes);
    frames.insert(0, bytes);
    for frame in frames {
        if let Some(DialFrame::Beat(beat)) = dial_frame(frame) {
            beats.push(*beat);
        } else if let Some(ListenFrame::Beat(beat)) = listen_frame(frame) {
            beats.push(*beat);
        }
    }
    for role in [Role::Primary, Role::Secondary] {
        session(role, &beats);
    }
}

/// The one frame of a connection test.
fn test_answer(bytes: &[u8]) {
    let Ok(response) = wire::SessionResponse::decode(bytes) else { return };
    match TestAnswer::read(response) {
        Err(invalid) => told(&invalid),
        Ok(None) => {}
        Ok(Some(answer)) => {
            let beat = Beat { sequence: 1, stamp: BEGIN, echo: None, report: answer.report.clone() };
            keeps_its_bounds(&beat);
            let again = TestAnswer::read(TestAnswer::frame(beat, answer.unix_ms.unwrap_or_default()));
            let again = again.expect("what is sent can be read").expect("a beat");
            assert_eq!(again.report, answer.report, "the same after another trip");
        }
    }
}

/// A session of this node with the peer that the first beat speaks for.
fn session(role: Role, beats: &[Beat]) {
    let Some(first) = beats.first() else { return };
    let peer = first.report.identity.clone();
    let mut node = Node::new(role);
    if peer.node == node.settings.identity.node || peer.instance == node.settings.identity.instance {
        return; // The handshake refuses a node that meets itself.
    }
    node.tell(Input::SessionProved {
        session: SessionId(1),
        via: Via {
            path: PathId::FIRST,
            paths: 1,
            remote: "192.0.2.2".to_owned(),
            dialled: role == Role::Secondary,
        },
        peer: peer.clone(),
        role: first.report.role,
        mode: first.report.mode,
    });
    let mut ledger = Ledger::new(peer.clone());
    let mut model = Model::default();
    for beat in beats {
        let own = ledger.next(node.now.boot, node.machine.report());
        assert_eq!(own.echo, model.newest.map(|(_, stamp)| stamp), "echoed is the newest that was accepted");
        can_be_received(&own.report);
        model.sent.push(own.stamp);
        node.advance(STEP);
        let accepted = ledger.receive(beat).is_ok();
        assert_eq!(accepted, model.accepts(&peer, beat), "{beat:?}");
        if !accepted {
            break; // The session is closed.
        }
        model.newest = Some((beat.sequence, beat.stamp));
        node.tell(Input::BeatArrived { session: SessionId(1), beat: Box::new(beat.clone()) });
    }
    node.run();
    node.tell(Input::SessionEnded { session: SessionId(1), cause: "the connection broke".to_owned() });
    node.run();
    can_be_received(&node.machine.report());
}

/// What the ledger has to know, written a second time.
#[derive(Default)]
struct Model {
    sent: Vec<BootTime>,
    newest: Option<(u64, BootTime)>,
}

impl Model {
    fn accepts(&self, peer: &Identity, beat: &Beat) -> bool {
        let (sequence, stamp) = self.newest.unwrap_or((0, BootTime::ZERO));
        let in_session = |echo: BootTime| {
            self.sent.first().is_some_and(|oldest| *oldest <= echo)
                && self.sent.last().is_some_and(|newest| echo <= *newest)
        };
        let identity = &beat.report.identity;
        identity.node == peer.node
            && identity.instance == peer.instance
            && beat.sequence > sequence
            && beat.stamp >= stamp
            && beat.echo.is_none_or(in_session)
    }
}

/// A node never says what its peer would refuse.
fn can_be_received(report: &Report) {
    let received = Report::try_from(NodeReport::from(report.clone()));
    assert_eq!(received.as_ref(), Ok(report), "the report as the peer gets it");
}

/// A machine with whoever carries out its effects at once.
struct Node {
    settings: Settings,
    machine: Machine,
    now: Now,
}

impl Node {
    fn new(role: Role) -> Self {
        let settings = settings(role);
        let now = Now { boot: BEGIN, unix: UNIX };
        let (machine, effects) = Machine::new(now, settings.clone(), Memory::default(), Some(Epoch(0)));
        let mut node = Self { settings, machine, now };
        node.carry_out(effects);
        node.tell(Input::PreflightChanged { unfit: None });
        node
    }

    fn tell(&mut self, input: Input) {
        let effects = self.machine.handle(self.now, input);
        self.carry_out(effects);
    }

    /// Lets time pass up to the machine's next deadlines.
    fn run(&mut self) {
        let _ = self.machine.view(self.now);
        for _ in 0..DEADLINES {
            let Some(due) = self.machine.deadline() else { return };
            let wait = due.since(self.now.boot);
            self.advance(wait);
            self.tell(Input::Woke);
            let next = self.machine.deadline();
            assert!(
                next.is_none_or(|next| next > self.now.boot),
                "due again at once: {next:?} at {:?}",
                self.now
            );
        }
    }

    fn advance(&mut self, span: Duration) {
        self.now.boot = self.now.boot + span;
        self.now.unix = UNIX + self.now.boot.since(BEGIN).as_secs();
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Order(order) => self.ordered(order),
                Effect::ArmTombstone { epoch } => self.tell(Input::TombstoneArmed { epoch, sha256: [7; 32] }),
                Effect::ReserveEpochs { up_to } => self.tell(Input::EpochsReserved { up_to }),
                Effect::Record(event) => assert!(!event.sentence.is_empty(), "{event:?}"),
                Effect::Announce
                | Effect::CloseSession { .. }
                | Effect::Remember(_)
                | Effect::RequestLicence { .. }
                | Effect::ReleaseLicence { .. }
                | Effect::Finish
                | Effect::ChangeMode { .. } => {}
            }
        }
    }

    fn ordered(&mut self, order: DutyOrder) {
        let epoch = order.epoch();
        assert_eq!(epoch.owner(), self.machine.report().parity, "no other node gives this number: {order:?}");
        if let Some(until) = order.hold_until() {
            assert!(until.since(self.now.boot) <= LONGEST_LEASE, "{order:?} at {:?}", self.now);
        }
        match order {
            DutyOrder::Run { .. } => self.tell(Input::PluginsReady { epoch }),
            DutyOrder::Stop { .. } | DutyOrder::Kill { .. } => self.tell(Input::PluginsReaped { epoch }),
        }
    }
}

fn settings(role: Role) -> Settings {
    let (number, mode) = match role {
        Role::Primary => (0xA0, Mode::Primary),
        Role::Secondary => (0xB0, Mode::Secondary),
    };
    Settings {
        identity: Identity {
            node: NodeId([number; 16]),
            instance: InstanceId([number + 1; 16]),
            name: NodeName::try_from(format!("node-{role}")).expect("a name"),
        },
        mode,
        role,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(3),
        takeover_after: None,
        paths: vec!["https://192.0.2.1:5001".to_owned()],
        confirm_refusals: false,
        startup_wait: Duration::from_secs(3),
        failback: FailbackMode::Automatic,
        stable_for: Duration::from_secs(3),
        flap_limit: 5,
        flap_window: Duration::from_secs(600),
        on_unproved: OnUnproved::Hold,
        handover_on_stop: true,
        start_limit: Duration::from_secs(5),
        stop_limit: Duration::from_secs(5),
        arbitration: Arbitration::None,
        unsafe_settings: Vec::new(),
    }
}

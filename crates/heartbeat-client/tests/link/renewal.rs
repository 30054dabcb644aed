//! The key of the pair is exchanged under a session: which step makes a new session, and that none is made without need.

use std::path::Path;

use certificate_trust::{KeyFiles, KeyFingerprint, KeySlot, KeySources, KeyStore, write_key_file};
use failover_core::{Input, SessionId};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{KEY, Node};

/// A node whose keys are in files.
struct Rotating {
    node: Node,
    files: KeyFiles,
    store: KeyStore,
    _folder: TempDir,
}

impl Rotating {
    fn new(mut node: Node) -> Self {
        let folder = TempDir::new().unwrap();
        let files = KeyFiles::of(&folder.path().join("pair.key"));
        write_key_file(files.key(), KEY).unwrap();
        let sources = KeySources { key_file: Some(files.key()), ..KeySources::default() };
        let store = KeyStore::open(sources, true, node.clock.clone()).unwrap();
        node.ring = Some(store.ring());
        Self { node, files, store, _folder: folder }
    }

    fn prepare(&self, from: Option<&Path>) {
        let text = from.map(|file| std::fs::read_to_string(file).unwrap());
        assert!(self.files.prepare(text.as_deref()).unwrap().changed && self.store.look());
    }

    fn use_next(&self) {
        assert!(self.files.use_next().unwrap().changed && self.store.look());
    }

    fn finish(&self) {
        assert!(self.files.finish().unwrap().changed && self.store.look());
    }

    /// Which of its keys the session uses, and whether the other may go.
    fn uses(&self) -> (KeySlot, KeyFingerprint, bool) {
        let states = self.store.ring().states();
        let used = states.iter().find(|state| state.in_use).unwrap();
        let other_may_go = states.iter().any(|state| state.droppable);
        (used.slot, used.fingerprint, other_may_go)
    }
}

fn pair() -> (Rotating, Rotating) {
    (Rotating::new(Node::primary()), Rotating::new(Node::secondary()))
}

async fn both_proved(primary: &mut Rotating, secondary: &mut Rotating) -> SessionId {
    primary.node.proved().await;
    secondary.node.proved().await.0
}

#[tokio::test]
async fn the_pair_goes_over_when_the_dialling_node_does_and_nothing_is_missed() {
    let (mut primary, mut secondary) = pair();
    let server = primary.node.serve().await;
    let _client = secondary.node.dial(server.address);
    let first = both_proved(&mut primary, &mut secondary).await;
    let (_, old, _) = secondary.uses();

    primary.prepare(None);
    secondary.prepare(Some(&primary.files.next()));
    primary.use_next();
    // Nobody has asked for another session: beats go on over the first.
    primary.node.beat().await;
    secondary.node.beat().await;
    assert_eq!((primary.uses().1, secondary.uses().1), (old, old));
    assert!(!primary.uses().2 || primary.uses().0 == KeySlot::Previous, "{:?}", primary.uses());

    secondary.use_next();
    let second = both_proved(&mut primary, &mut secondary).await;
    let (ended, why) = secondary.node.ended().await;
    assert_eq!((ended, why.as_str()), (first, "replaced by a newer session"), "the new one was there before");
    primary.node.ended().await;
    let new = secondary.uses();
    assert_eq!((new.0, new.2, new.1 == old), (KeySlot::Current, true, false));
    assert_eq!(primary.uses(), new, "both know it, and that the old one may go");

    primary.finish();
    secondary.finish();
    secondary.node.beat().await;
    assert_eq!(secondary.uses(), (KeySlot::Current, new.1, false), "the same session: {second:?}");
}

#[tokio::test]
async fn a_key_that_the_listening_node_learns_late_is_used_at_once() {
    let (mut primary, mut secondary) = pair();
    let server = primary.node.serve().await;
    let _client = secondary.node.dial(server.address);
    both_proved(&mut primary, &mut secondary).await;
    secondary.prepare(None);
    secondary.use_next();
    let second = both_proved(&mut primary, &mut secondary).await;
    secondary.node.ended().await;
    assert_eq!(secondary.uses().0, KeySlot::Previous, "the peer does not know the new one");

    primary.prepare(Some(secondary.files.key()));
    let (ended, why) = secondary.node.ended().await;
    assert_eq!((ended, why.as_str()), (second, "the peer ended it: the keys have changed"));
    both_proved(&mut primary, &mut secondary).await;
    assert_eq!((secondary.uses().0, primary.uses().0), (KeySlot::Current, KeySlot::Next));
    assert!(secondary.uses().2, "the other node has the key that stays");
}

/// A session that is good is not disturbed by what another dial meets, and that dial is not made again and again.
#[tokio::test]
async fn a_dial_for_another_key_that_fails_is_not_told_and_not_repeated_at_once() {
    let (mut primary, mut secondary) = pair();
    let server = primary.node.serve().await;
    let (far, listener) = (server.address, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let near = listener.local_addr().unwrap();
    let (more, turned_away) = watch::channel(0_u32);
    let _relay = AbortOnDropHandle::new(tokio::spawn(async move {
        let (mut io, _) = listener.accept().await.unwrap();
        let mut onward = TcpStream::connect(far).await.unwrap();
        let first = tokio::io::copy_bidirectional(&mut io, &mut onward);
        let others = async {
            loop {
                drop(listener.accept().await.unwrap());
                more.send_modify(|count| *count += 1);
            }
        };
        tokio::select! { _ = first => {}, () = others => {} }
    }));
    let _client = secondary.node.dial(near);
    both_proved(&mut primary, &mut secondary).await;
    secondary.prepare(None);
    secondary.use_next();
    turned_away.clone().wait_for(|count| *count > 0).await.unwrap();
    // Several times as long as a peer that is away is left alone.
    for _ in 0..6 {
        secondary
            .node
            .told("a beat", |input| match input {
                Input::BeatArrived { .. } => Some(()),
                Input::DialFinished { .. } | Input::SessionEnded { .. } => panic!("{input:?}"),
                _ => None,
            })
            .await;
    }
    assert_eq!(*turned_away.borrow(), 1);
}

#[tokio::test]
async fn no_session_outlives_its_key() {
    for at_primary in [true, false] {
        let (mut primary, mut secondary) = pair();
        let server = primary.node.serve().await;
        let _client = secondary.node.dial(server.address);
        both_proved(&mut primary, &mut secondary).await;
        let (one, other) =
            if at_primary { (&mut primary, &mut secondary) } else { (&mut secondary, &mut primary) };
        one.prepare(None);
        one.use_next();
        if !at_primary {
            both_proved(other, one).await;
            one.node.ended().await;
        }
        one.finish();
        let (_, why) = one.node.ended().await;
        assert_eq!(why, "its key is not accepted any more");
        let (listening, code) = (if at_primary { &one.node } else { &other.node }, "key_mismatch");
        listening.rejected(code, 1).await;
    }
}

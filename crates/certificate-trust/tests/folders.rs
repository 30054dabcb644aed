//! The bundle follows the folders: by hand, by Kubernetes, half-written, mismatching; and the ends of the link follow the bundle.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

#[path = "support/authority.rs"]
mod authority;
mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authority::{Authority, HOST, leaf_params, self_signed};
use certificate_trust::{
    Acceptor, Bundle, BundleReceiver, Connector, Fingerprint, Kept, Later, OwnIdentity, PkiStore,
    SystemStore, TrustFolders, TrustKeeper, TrustMode, Unknown,
};
use failover_core::BootTime;
use rcgen::{CertificateParams, KeyPair};
use service_kit::Clock;
use support::{NOW, Node, failure, shake};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Long enough for a busy machine; a change is there after a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(20);

fn plain(_: &mut CertificateParams) {}

fn folders(node: &Node, system: Option<SystemStore>) -> TrustFolders {
    TrustFolders::new(PkiStore::open(&node.pki()).unwrap(), Some(node.identity.clone()), system)
}

fn clock() -> Clock {
    Clock::simulated(BootTime::from_nanos(0), NOW)
}

/// Waits for a bundle of which this holds.
async fn bundle_with(
    bundles: &mut BundleReceiver,
    what: &str,
    holds: impl FnMut(&Arc<Bundle>) -> bool,
) -> Arc<Bundle> {
    let found = timeout(PATIENCE, bundles.wait_for(holds)).await;
    Arc::clone(&*found.unwrap_or_else(|_| panic!("not in time: {what}")).unwrap())
}

/// A watcher for the length of a test.
struct Watched {
    bundles: BundleReceiver,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Watched {
    async fn begin(folders: &TrustFolders) -> Self {
        let (mut bundles, stop) = (folders.receiver(), CancellationToken::new());
        let task = tokio::spawn(folders.clone().watch(stop.clone()));
        bundle_with(&mut bundles, "the first bundle", |bundle| bundle.revision > 0).await;
        Self { bundles, stop, task }
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

#[test]
fn a_revision_is_a_change_and_a_change_is_a_revision() {
    let node = Node::new(&["node-b"]);
    let folders = folders(&node, None);
    let bundles = folders.receiver();
    assert_eq!(bundles.borrow().revision, 0);
    assert!(bundles.borrow().unusable.as_ref().unwrap().contains("not been read yet"));
    assert!(folders.look());
    let first = Arc::clone(&bundles.borrow());
    assert_eq!((first.revision, &first.unusable), (1, &None));
    assert_eq!(first.own.as_ref().unwrap(), &node.identity.pair());
    assert!(!folders.look() && !folders.look());

    let place = folders.store().trusted().join("peer.pem");
    let (one, two) = (self_signed(plain), Authority::root("Plant CA", plain));
    fs::write(&place, &one).unwrap();
    assert!(folders.look());
    assert_eq!(bundles.borrow().pinned, vec![one.clone()]);
    // Twice within one tick of the file system's clock, and of the same length.
    let mut changed = one.clone();
    changed[one.len() - 1] ^= 1;
    fs::write(&place, &changed).unwrap();
    assert!(folders.look());
    assert_eq!(bundles.borrow().pinned, vec![changed]);
    fs::copy(&place, folders.store().trusted().join("again.der")).unwrap();
    assert!(!folders.look(), "the same certificate twice changes nothing");
    fs::write(folders.store().issuers().join("ca"), &two.der).unwrap();
    fs::write(folders.store().trusted().join("ca"), &two.der).unwrap();
    fs::write(folders.store().crls()[1].join("list"), two.crl(&[], -1, 30)).unwrap();
    let distrusted = Fingerprint::of(b"abc");
    fs::write(folders.store().distrusted().join(format!("{}.pem", distrusted.to_hex())), "damaged").unwrap();
    fs::write(folders.store().distrusted().join("notes"), "mine").unwrap();
    assert!(folders.look());
    let all = Arc::clone(&bundles.borrow());
    assert_eq!((&all.issuers, &all.intermediates), (&vec![two.der.clone()], &vec![two.der.clone()]));
    assert_eq!((all.pinned.len(), all.crls.len(), all.revision), (2, 1, 4));
    assert!(all.distrusted.contains(&distrusted) && all.distrusted.len() == 1);
    assert!(
        all.problems.iter().any(|problem| problem.contains("notes` rejects nothing")),
        "{:?}",
        all.problems
    );
    fs::remove_dir_all(folders.store().trusted()).unwrap();
    assert!(folders.look());
    assert!(bundles.borrow().unusable.as_ref().unwrap().contains("cannot be read"));
}

#[tokio::test]
async fn changes_by_hand_are_noticed() {
    let node = Node::new(&["node-b"]);
    let folders = folders(&node, None);
    let mut watched = Watched::begin(&folders).await;
    let (store, one) = (folders.store().clone(), self_signed(plain));
    let bundles = &mut watched.bundles;
    fs::write(store.trusted().join("peer.pem"), &one).unwrap();
    bundle_with(bundles, "a new file", |bundle| bundle.pinned == vec![one.clone()]).await;
    fs::rename(store.trusted().join("peer.pem"), store.issuers().join("peer.pem")).unwrap();
    bundle_with(bundles, "a moved file", |bundle| {
        bundle.pinned.is_empty() && bundle.intermediates.len() == 1
    })
    .await;
    fs::rename(store.issuers().join("peer.pem"), store.distrusted().join("peer.pem")).unwrap();
    bundle_with(bundles, "a rejected one", |bundle| bundle.distrusted.contains(&Fingerprint::of(&one))).await;
    fs::remove_file(store.distrusted().join("peer.pem")).unwrap();
    bundle_with(bundles, "a removed file", |bundle| bundle.distrusted.is_empty()).await;
    // The folder itself is exchanged for another one.
    fs::create_dir(node.pki().join("other")).unwrap();
    fs::write(node.pki().join("other/peer.pem"), &one).unwrap();
    fs::rename(store.trusted(), node.pki().join("old")).unwrap();
    fs::rename(node.pki().join("other"), store.trusted()).unwrap();
    bundle_with(bundles, "another folder", |bundle| bundle.pinned == vec![one.clone()]).await;
    let two = self_signed(plain);
    fs::write(store.trusted().join("two"), &two).unwrap();
    bundle_with(bundles, "a file in the other folder", |bundle| bundle.pinned.contains(&two)).await;
    watched.end().await;
}

/// Kubernetes mounts a Secret as links over a link that it renames: the files themselves never change.
#[tokio::test]
async fn a_mounted_secret_that_is_exchanged_is_noticed() {
    let node = Node::new(&["node-b"]);
    let folders = folders(&node, None);
    let trusted = folders.store().trusted();
    let (one, two) = (self_signed(plain), self_signed(plain));
    for (version, der) in [("..2026_1", &one), ("..2026_2", &two)] {
        fs::create_dir(trusted.join(version)).unwrap();
        fs::write(trusted.join(version).join("peer.der"), der).unwrap();
    }
    symlink("..2026_1", trusted.join("..data")).unwrap();
    symlink("..data/peer.der", trusted.join("peer.der")).unwrap();
    let mut watched = Watched::begin(&folders).await;
    bundle_with(&mut watched.bundles, "the first version", |bundle| bundle.pinned == vec![one.clone()]).await;
    symlink("..2026_2", trusted.join("..data_tmp")).unwrap();
    fs::rename(trusted.join("..data_tmp"), trusted.join("..data")).unwrap();
    bundle_with(&mut watched.bundles, "the second version", |bundle| bundle.pinned == vec![two.clone()])
        .await;
    watched.end().await;
}

#[tokio::test]
async fn a_new_own_certificate_is_shown_without_dropping_a_connection() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let folders = folders(&a, None);
    let mut watched = Watched::begin(&folders).await;
    let acceptor = Acceptor::watching(folders.receiver());
    let (connector, old) = (b.connector(TrustMode::All), a.identity.fingerprint());
    let (dialled, accepted) = shake(&connector, "node-a", &acceptor).await;
    let ((mut client, _), (mut server, _)) = (dialled.unwrap(), accepted.unwrap());

    // The certificate first: for a moment it does not belong to the key.
    let key = KeyPair::generate().unwrap();
    fs::write(a.certificate(), leaf_params(plain).self_signed(&key).unwrap().pem()).unwrap();
    let torn = bundle_with(&mut watched.bundles, "the torn pair", |bundle| !bundle.problems.is_empty()).await;
    assert!(torn.problems[0].contains("goes on showing its certificate"), "{:?}", torn.problems);
    assert!(torn.problems[0].contains("does not belong to the private key"), "{:?}", torn.problems);
    assert_eq!(Fingerprint::of(&torn.own.as_ref().unwrap().chain[0]), old);
    assert_eq!(shown_by(&acceptor, &b).await, old, "the old one is shown");
    fs::write(a.private_key(), &key.serialize_pem()[..100]).unwrap();
    fs::write(a.private_key(), key.serialize_pem()).unwrap();
    let new = bundle_with(&mut watched.bundles, "the new pair", |bundle| bundle.problems.is_empty()).await;
    let new = Fingerprint::of(&new.own.as_ref().unwrap().chain[0]);
    assert_ne!(new, old);
    assert_eq!(shown_by(&acceptor, &b).await, new);
    assert_eq!(a.identity.fingerprint(), new);

    for _ in 0..3 {
        client.write_all(b"beat").await.unwrap();
        client.flush().await.unwrap();
        server.read_exact(&mut [0; 4]).await.unwrap();
    }
    watched.end().await;
    assert_eq!(shown_by(&acceptor, &b).await, new, "also when nobody publishes any more");
}

/// What a stranger is shown, read from the file that an unknown certificate is kept in.
async fn shown_by(acceptor: &Acceptor, stranger: &Node) -> Fingerprint {
    for file in stranger.rejected() {
        fs::remove_file(file).unwrap();
    }
    failure(shake(&stranger.connector(TrustMode::Store), "node-a", acceptor).await.0);
    let [kept] = &stranger.rejected()[..] else { panic!("one is kept") };
    Fingerprint::parse(kept.file_stem().unwrap().to_str().unwrap()).unwrap()
}

#[tokio::test]
async fn without_a_certificate_every_handshake_fails_and_nothing_else() {
    let b = Node::new(&["node-b"]);
    let acceptor = Acceptor::watching(Bundle::unusable("asleep").fixed());
    let (dialled, accepted) = shake(&b.connector(TrustMode::All), "node-a", &acceptor).await;
    assert!(accepted.is_err());
    assert_eq!(failure(dialled).0, "tls.refused_by_peer");
}

/// A keeper at the other end of a socket, as far as the connector can see.
#[derive(Debug, Default)]
struct Elsewhere(Mutex<Vec<Unknown>>);

impl TrustKeeper for Elsewhere {
    fn keep(&self, unknown: Unknown) -> Later<'_, Kept> {
        self.0.lock().unwrap().push(unknown);
        Box::pin(async { Kept::Failed("the trust service does not answer".to_owned()) })
    }
}

#[tokio::test]
async fn the_last_bundle_stays_in_force_and_strangers_are_reported() {
    let a = Node::new(&["node-a"]);
    let keeper = Arc::new(Elsewhere::default());
    let (sender, bundles) =
        tokio::sync::watch::channel(Arc::new(Bundle::unusable("the trust service has not answered")));
    let connector = Connector::watching(TrustMode::Store, bundles, Arc::clone(&keeper) as _, clock());
    let (code, words) = failure(shake(&connector, "node-a", &a.acceptor()).await.0);
    assert_eq!(code, "tls.store_unreadable");
    assert!(words.contains("nobody is trusted for now: the trust service has not answered"), "{words}");

    let _ = sender.send_replace(Arc::new(Bundle { revision: 1, ..Bundle::default() }));
    let (code, words) = failure(shake(&connector, "node-a", &a.acceptor()).await.0);
    assert_eq!(code, "tls.unknown_certificate");
    assert!(words.contains("could not be kept") && words.contains("does not answer"), "{words}");
    let leaf = a.identity.pair().chain[0].clone();
    let reported = keeper.0.lock().unwrap().clone();
    let reason = "it is not trusted here".to_owned();
    let code = "tls.unknown_certificate".to_owned();
    assert_eq!(reported, [Unknown { der: leaf.clone(), code, reason, seen_unix: NOW }]);

    let _ = sender.send_replace(Arc::new(Bundle { revision: 2, pinned: vec![leaf], ..Bundle::default() }));
    drop(sender);
    assert!(
        shake(&connector, "node-a", &a.acceptor()).await.0.is_ok(),
        "the service is gone, its word stays"
    );
}

/// A chain over a real handshake: root trusted, the peer shows its intermediate.
#[tokio::test]
async fn a_chain_is_followed_through_a_real_handshake() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let root = Authority::root("Plant CA", plain);
    let middle = root.below("Line CA", plain);
    show_chain(&a, &middle);
    fs::write(b.pki().join("trusted/certs/ca"), &root.der).unwrap();
    let connector = b.connector(TrustMode::Store);
    assert!(shake(&connector, HOST, &a.acceptor()).await.0.is_ok());
    assert_eq!(failure(shake(&connector, "plc7", &a.acceptor()).await.0).0, "tls.name_mismatch");
    fs::remove_file(b.pki().join("trusted/certs/ca")).unwrap();
    let (code, words) = failure(shake(&connector, HOST, &a.acceptor()).await.0);
    assert_eq!(code, "tls.unknown_issuer");
    assert!(words.contains("`CN=Line CA`") && b.rejected().len() == 1, "{words}");
}

fn show_chain(node: &Node, signer: &Authority) {
    let key = KeyPair::generate().unwrap();
    let leaf = leaf_params(plain).signed_by(&key, &signer.issuer()).unwrap();
    let pem = |der: &[u8]| {
        let store = PkiStore::open(&node.pki()).unwrap();
        let file = store.trusted().join("to-pem");
        fs::write(&file, der).unwrap();
        let text = store.show("to-pem").unwrap().pem();
        fs::remove_file(file).unwrap();
        text
    };
    fs::write(node.certificate(), leaf.pem() + &pem(&signer.der)).unwrap();
    fs::write(node.private_key(), key.serialize_pem()).unwrap();
    node.identity.reload().unwrap();
}

#[tokio::test]
async fn the_systems_roots_are_followed_and_their_absence_is_loud() {
    let (a, b) = (Node::new(&["node-a"]), Node::new(&["node-b"]));
    let root = Authority::root("Public CA", plain);
    show_chain(&a, &root);
    let file = b.folder.path().join("roots.pem");
    let folders = folders(&b, Some(SystemStore::at(Some(file.clone()), Vec::new())));
    let keeper: Arc<dyn TrustKeeper> = Arc::new(folders.clone());
    let connector = Connector::watching(TrustMode::System, folders.receiver(), keeper, clock());
    let (code, words) = failure(shake(&connector, HOST, &a.acceptor()).await.0);
    assert_eq!(code, "tls.no_system_roots");
    assert!(words.contains("No such file"), "{words}");
    fs::write(&file, rcgen_pem(&root)).unwrap();
    let dialled = shake(&connector, HOST, &a.acceptor()).await.0;
    assert!(dialled.is_ok(), "{}", dialled.err().unwrap());
    fs::write(&file, rcgen_pem(&Authority::root("Another CA", plain))).unwrap();
    let (code, words) = failure(shake(&connector, HOST, &a.acceptor()).await.0);
    assert_eq!(code, "tls.unknown_issuer");
    assert!(words.contains("only what the operating system's authorities"), "{words}");
    fs::write(&file, "").unwrap();
    assert_eq!(failure(shake(&connector, HOST, &a.acceptor()).await.0).0, "tls.no_system_roots");
}

fn rcgen_pem(authority: &Authority) -> String {
    authority.params.self_signed(&authority.key).unwrap().pem()
}

/// The environment of a process cannot be changed safely while it runs: this test runs itself with another one.
#[test]
fn the_environment_names_the_roots() {
    if std::env::var_os("TEST_KNOWS_THE_ROOTS").is_none() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("roots.pem");
        let roots = [Authority::root("One", plain), Authority::root("Two", plain)];
        fs::write(&file, roots.iter().map(rcgen_pem).collect::<String>()).unwrap();
        let again = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_environment_names_the_roots"])
            .env("TEST_KNOWS_THE_ROOTS", "")
            .env("SSL_CERT_FILE", &file)
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
        return;
    }
    let node = Node::new(&["node-b"]);
    let folders = folders(&node, Some(SystemStore::of_this_machine()));
    assert!(folders.look());
    let bundles = folders.receiver();
    let bundle = bundles.borrow();
    let system = bundle.system.as_ref().unwrap();
    assert_eq!((system.roots.len(), system.problems.len()), (2, 0), "{system:?}");
}

/// What a node pays for looking: nothing, while nothing changes.
#[test]
#[allow(clippy::disallowed_methods, clippy::print_stderr, reason = "it measures")]
fn a_look_at_unchanged_folders_is_cheap() {
    let node = Node::new(&["node-b"]);
    let _ = OwnIdentity::reload(&node.identity).unwrap();
    let folders = folders(&node, None);
    for number in 0..5 {
        fs::write(folders.store().trusted().join(number.to_string()), self_signed(plain)).unwrap();
    }
    while folders.look() {}
    let begun = std::time::Instant::now();
    for _ in 0..1000 {
        assert!(!folders.look());
    }
    let each = begun.elapsed() / 1000;
    eprintln!("a look takes {each:?}");
    assert!(each < Duration::from_millis(5), "{each:?}");
}

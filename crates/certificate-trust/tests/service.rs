//! The trust service over a real unix socket: what its watchers and operators get, and what it does to those who ask wrongly,
//! read slowly, or find it gone.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail by unwrapping; the number is worth reading"
)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certificate_trust::service::{self, BundleFollower, FollowOptions, Following, Notice, Options};
use certificate_trust::{Bundle, Fingerprint, Kept, TrustFolders, Unknown};
use onduty_api::errors::reason;
use onduty_api::trust::{BundleNews, MAX_BUNDLE_MESSAGE, MAX_REQUEST};
use onduty_api::unix_channel;
use onduty_api::wire::trust::v1 as wire;
use onduty_api::wire::trust::v1::certificate_service_client::CertificateServiceClient;
use onduty_api::wire::trust::v1::trust_bundle_service_client::TrustBundleServiceClient;
use service_kit::Clock;
use support::{NOW, Node};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

/// Longer than anything here takes, also on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A trust service on the folders of a node.
struct Service {
    node: Node,
    socket: PathBuf,
    folders: Option<TrustFolders>,
    running: Option<(CancellationToken, JoinHandle<Result<(), service::RunError>>)>,
}

impl Service {
    fn prepared() -> Self {
        let node = Node::new(&["node-a"]);
        let socket = node.folder.path().join("run/trust.sock");
        Self { node, socket, folders: None, running: None }
    }

    fn started() -> Self {
        let mut service = Self::prepared();
        service.start();
        service
    }

    fn start(&mut self) {
        let store = certificate_trust::PkiStore::open(&self.node.pki()).unwrap();
        let folders = TrustFolders::new(store, Some(self.node.identity.clone()), None);
        let _first = folders.look();
        self.folders = Some(folders.clone());
        let clock = Clock::simulated(failover_core::BootTime::from_nanos(0), NOW);
        let service = service::build(Options {
            socket: self.socket.clone(),
            folders,
            clock,
            names: vec!["node-a".to_owned()],
        })
        .unwrap();
        let stop = CancellationToken::new();
        self.running = Some((stop.clone(), tokio::spawn(service.run(stop))));
    }

    async fn stop(&mut self) {
        let (stop, running) = self.running.take().unwrap();
        stop.cancel();
        timeout(LIMIT, running).await.unwrap().unwrap().unwrap();
        assert!(!self.socket.exists());
    }

    fn bundles(&self) -> TrustBundleServiceClient<Channel> {
        let channel = unix_channel::lazy(&self.socket);
        TrustBundleServiceClient::new(channel).max_decoding_message_size(MAX_BUNDLE_MESSAGE)
    }

    fn operator(&self) -> CertificateServiceClient<Channel> {
        CertificateServiceClient::new(unix_channel::lazy(&self.socket))
    }

    async fn watch(&self) -> Streaming<wire::WatchBundleResponse> {
        self.bundles().watch_bundle(wire::WatchBundleRequest {}).await.unwrap().into_inner()
    }

    async fn import(&self, content: Vec<u8>) -> wire::ImportCertificateResponse {
        let request = wire::ImportCertificateRequest { content, purpose: 0 };
        self.operator().import_certificate(request).await.unwrap().into_inner()
    }
}

async fn next(watch: &mut Streaming<wire::WatchBundleResponse>) -> BundleNews {
    let response = timeout(LIMIT, watch.message()).await.unwrap().unwrap().unwrap();
    BundleNews::try_from(response).unwrap()
}

fn certificate(name: &str) -> Vec<u8> {
    rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap().cert.der().to_vec()
}

#[tokio::test]
async fn a_watcher_gets_the_truth_at_once_and_after_every_change_with_the_notice_until_it_is_confirmed() {
    let service = Service::started();
    let mode = std::fs::metadata(&service.socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let mut watch = service.watch().await;
    let first = next(&mut watch).await;
    let (chain, key) = first.bundle.own.clone().unwrap();
    assert_eq!(Fingerprint::of(&chain[0]), service.node.identity.fingerprint());
    assert!(!key.is_empty() && first.notices.is_empty() && first.bundle.pinned.is_empty());

    let peer = certificate("node-b");
    assert!(service.import(peer.clone()).await.changed);
    let second = next(&mut watch).await;
    // The notice and the bundle may come in two answers.
    let second = if second.bundle.pinned.is_empty() { next(&mut watch).await } else { second };
    assert_eq!(second.bundle.pinned, std::slice::from_ref(&peer));
    assert_eq!(second.instance, first.instance);
    let notice = second.notices.last().unwrap();
    assert!(notice.sentence.contains(&Fingerprint::of(&peer).to_string()), "{notice:?}");
    assert!(!service.import(peer).await.changed, "what is so already is no change");

    let mut others = service.watch().await;
    assert_eq!(next(&mut others).await.notices.len(), 1, "kept until somebody has journalled it");
    let confirm = |instance: Vec<u8>| wire::ConfirmNoticesRequest { instance, up_to: notice.number };
    let strange = service.bundles().confirm_notices(confirm(vec![0; 16])).await;
    assert!(strange.is_ok(), "another run's are gone anyway");
    assert_eq!(next(&mut service.watch().await).await.notices.len(), 1);
    let wrong = service.bundles().confirm_notices(confirm(vec![0; 3])).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    service.bundles().confirm_notices(confirm(first.instance.to_vec())).await.unwrap();
    assert!(next(&mut service.watch().await).await.notices.is_empty());
}

#[tokio::test]
async fn an_unknown_certificate_is_kept_once_and_wrong_reports_are_refused() {
    let service = Service::started();
    let report = |certificate: Vec<u8>, reason: &str| wire::ReportUnknownRequest {
        certificate,
        reason: reason.to_owned(),
        ..Default::default()
    };
    let stranger = certificate("stranger");
    for _ in 0..3 {
        let kept = service.bundles().report_unknown(report(stranger.clone(), "not trusted")).await.unwrap();
        assert!(kept.into_inner().file.contains(&Fingerprint::of(&stranger).to_hex()));
    }
    assert_eq!(service.node.rejected().len(), 1);
    for (wrong, code) in [
        (report(Vec::new(), "x"), Code::InvalidArgument),
        (report(stranger.clone(), " "), Code::InvalidArgument),
        (report(vec![0x30; 65_537], "x"), Code::InvalidArgument),
        (report(vec![0x30; MAX_REQUEST + 1], "x"), Code::OutOfRange),
    ] {
        let refused = service.bundles().report_unknown(wrong).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
    }
    assert_eq!(service.node.rejected().len(), 1);
    let request = wire::ListCertificatesRequest { store: wire::CertificateStore::Rejected as i32 };
    let listed = service.operator().list_certificates(request).await.unwrap().into_inner();
    assert_eq!(listed.certificates.len(), 1);
    assert_eq!(listed.certificates[0].reason, "not trusted");
}

#[tokio::test]
async fn operators_errors_have_reasons() {
    let service = Service::started();
    let own = service.node.identity.fingerprint().to_hex();
    let get = |selector: &str| wire::GetCertificateRequest { selector: selector.to_owned() };
    let mut near = own[..10].to_owned();
    near.push(if own.as_bytes()[10] == b'0' { '1' } else { '0' });
    for (selector, code, why) in [
        ("", Code::InvalidArgument, Some("SELECTOR_TOO_SHORT")),
        ("AB", Code::InvalidArgument, Some("SELECTOR_TOO_SHORT")),
        (near.as_str(), Code::NotFound, Some("CERTIFICATE_UNKNOWN")),
        (&"x".repeat(300), Code::InvalidArgument, None),
    ] {
        let refused = service.operator().get_certificate(get(selector)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_deref()), (code, why), "{refused:?}");
    }
    let refused = service.operator().get_certificate(get(&near)).await.unwrap_err();
    let own_shown = service.node.identity.fingerprint().to_string();
    assert!(refused.message().contains(&format!("similar: {own_shown}")), "{refused:?}");

    let reject = wire::RejectCertificateRequest { selector: own };
    let refused = service.operator().reject_certificate(reject).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused).as_deref(), Some("OWN_CERTIFICATE"));
    let key = rcgen::KeyPair::generate().unwrap();
    for (content, why) in [
        (Vec::new(), "IMPORT_EMPTY"),
        (b" \n".to_vec(), "IMPORT_EMPTY"),
        (key.serialize_der(), "PRIVATE_KEY_GIVEN"),
        (key.serialize_pem().into_bytes(), "PRIVATE_KEY_GIVEN"),
        (b"hello".to_vec(), "NOTHING_IMPORTED"),
    ] {
        let request = wire::ImportCertificateRequest { content, purpose: 0 };
        let refused = service.operator().import_certificate(request).await.unwrap_err();
        assert_eq!(reason(&refused).as_deref(), Some(why), "{refused:?}");
    }
    let request = wire::ListCertificatesRequest { store: 99 };
    let refused = service.operator().list_certificates(request).await.unwrap_err();
    assert!(refused.message().contains("`store` is not known"), "{refused:?}");
}

/// What a watcher does not read is not kept for it: it misses what lies between, never the newest.
#[tokio::test]
async fn a_slow_watcher_costs_a_bounded_number_of_answers_and_gets_the_newest() {
    const CHANGES: usize = 80;
    let mut service = Service::prepared();
    let folder = service.node.pki().join("trusted/certs");
    for number in 0..60 {
        let names = vec![format!("peer-{number}-{}", "x".repeat(50)); 40];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(folder.join(format!("{number}.der")), made.cert.der()).unwrap();
    }
    service.start();
    let mut watch = service.watch().await;
    assert_eq!(next(&mut watch).await.bundle.pinned.len(), 60);
    let folders = service.folders.clone().unwrap();
    let another = certificate("another");
    let mut reader = service.watch().await;
    for number in 0..CHANGES {
        let file = folder.join("another.der");
        if number % 2 == 0 { std::fs::write(file, &another) } else { std::fs::remove_file(file) }.unwrap();
        assert!(folders.look());
        // Somebody who reads has got each of them.
        let revision = folders.receiver().borrow().revision;
        while next(&mut reader).await.bundle.revision != revision {}
    }
    let newest = folders.receiver().borrow().revision;
    let mut answers = 0;
    loop {
        answers += 1;
        if next(&mut watch).await.bundle.revision == newest {
            break;
        }
    }
    println!("{answers} answers for {CHANGES} changes");
    assert!(answers < CHANGES / 2, "{answers} answers were kept for a watcher that did not read");
}

#[tokio::test]
async fn only_so_many_may_watch_and_a_watcher_that_leaves_makes_room() {
    let service = Service::started();
    let mut watches = Vec::new();
    for _ in 0..16 {
        watches.push(service.watch().await);
    }
    let one_more = service.bundles().watch_bundle(wire::WatchBundleRequest {}).await.unwrap_err();
    assert_eq!(one_more.code(), Code::ResourceExhausted);
    drop(watches.pop());
    let again = async {
        while service.bundles().watch_bundle(wire::WatchBundleRequest {}).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, again).await.unwrap();
}

/// A follower, and what it has recorded.
struct Followed {
    following: Following,
    recorded: Arc<Mutex<Vec<Notice>>>,
    _stop: tokio_util::sync::DropGuard,
}

fn follow(service: &Service) -> Followed {
    let recorded: Arc<Mutex<Vec<Notice>>> = Arc::default();
    let notices = Arc::clone(&recorded);
    let (follower, following) = BundleFollower::new(FollowOptions {
        socket: service.socket.clone(),
        record: Arc::new(move |notice| notices.lock().unwrap().push(notice)),
    });
    let stop = CancellationToken::new();
    let _running = tokio::spawn(follower.run(stop.clone()));
    Followed { following, recorded, _stop: stop.drop_guard() }
}

impl Followed {
    async fn bundle(&mut self, wanted: impl Fn(&Bundle) -> bool) -> Arc<Bundle> {
        let seen = self.following.bundles.wait_for(|bundle| wanted(bundle));
        Arc::clone(&timeout(LIMIT, seen).await.unwrap().unwrap())
    }

    async fn away(&mut self, away: bool) -> Option<String> {
        let seen = self.following.away.wait_for(|why| why.is_some() == away);
        timeout(LIMIT, seen).await.unwrap().unwrap().clone()
    }
}

#[tokio::test]
async fn a_follower_finds_the_service_keeps_the_last_bundle_without_it_and_finds_the_next_one() {
    let mut service = Service::prepared();
    let mut followed = follow(&service);
    assert!(followed.following.bundles.borrow().unusable.is_some());
    let why = followed.away(true).await.unwrap();
    assert!(why.contains("has not answered yet") && why.contains("does it run?"), "{why}");

    service.start();
    let first = followed.bundle(|bundle| bundle.own.is_some()).await;
    assert_eq!(first.unusable, None);
    assert_eq!(followed.away(false).await, None);
    let peer = certificate("node-b");
    let _imported = service.import(peer.clone()).await;
    followed.bundle(|bundle| bundle.pinned == [peer.clone()]).await;

    service.stop().await;
    let why = followed.away(true).await.unwrap();
    assert!(why.contains("judged by what it said last"), "{why}");
    assert_eq!(
        followed.following.bundles.borrow().pinned,
        std::slice::from_ref(&peer),
        "the last bundle stays"
    );

    service.node.trust(&Node::new(&["node-c"]));
    service.start();
    followed.away(false).await;
    followed.bundle(|bundle| bundle.pinned.len() == 2).await;
    let recorded = followed.recorded.lock().unwrap();
    assert_eq!(recorded.len(), 1, "{recorded:#?}");
}

#[tokio::test]
async fn what_was_changed_while_nobody_followed_is_recorded_once_and_then_confirmed() {
    let service = Service::started();
    let _imported = service.import(certificate("node-b")).await;
    let mut followed = follow(&service);
    followed.bundle(|bundle| bundle.pinned.len() == 1).await;
    let confirmed = async {
        while !next(&mut service.watch().await).await.notices.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, confirmed).await.unwrap();
    assert_eq!(followed.recorded.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_follower_keeps_strangers_there_and_a_service_that_is_gone_only_costs_the_file() {
    let mut service = Service::started();
    let mut followed = follow(&service);
    followed.bundle(|bundle| bundle.own.is_some()).await;
    let unknown = |name: &str| Unknown {
        der: certificate(name),
        code: "tls.unknown_certificate".to_owned(),
        reason: "it is not trusted here".to_owned(),
        seen_unix: NOW,
    };
    let kept = followed.following.keeper.keep(unknown("stranger")).await;
    assert!(matches!(&kept, Kept::At(path) if path.exists()), "{kept:?}");
    service.stop().await;
    let kept = followed.following.keeper.keep(unknown("another")).await;
    assert!(matches!(&kept, Kept::Failed(why) if why.contains("certificate-trust service")), "{kept:?}");
    assert_eq!(service.node.rejected().len(), 1);
}

/// As a process that is stopped does: the kernel takes connections for it, and nobody answers.
#[tokio::test]
async fn a_service_that_stands_still_is_away_too() {
    let mut service = Service::prepared();
    std::fs::create_dir_all(service.socket.parent().unwrap()).unwrap();
    let still = std::os::unix::net::UnixListener::bind(&service.socket).unwrap();
    let mut followed = follow(&service);
    let why = followed.away(true).await.unwrap();
    assert!(why.contains("has not answered yet"), "{why}");
    drop(still);
    service.start();
    followed.bundle(|bundle| bundle.own.is_some()).await;
}

//! The table: certificates with one thing that is wrong, or none, and the verdict on each with its code.

mod against;
mod authorities;

use std::collections::BTreeSet;

use certificate_trust::{Bundle, Fingerprint, Purpose, Question, SystemRoots, TrustMode, decide, parse_crls};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CustomExtension, ExtendedKeyUsagePurpose as Eku,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose as Ku, NameConstraints, SanType, SerialNumber,
};

use crate::asked::check;
use crate::authority::{Authority, HOST, day, self_signed};

const NOW: u64 = 1_795_305_600;
const DAY: u64 = 86_400;
const PINNED: &str = "tls.accepted_pinned";
pub(crate) const CHAIN: &str = "tls.accepted_chain";

/// What is asked, with everything that most rows have in common.
pub(crate) struct Row<'a> {
    pub(crate) bundle: Bundle,
    pub(crate) mode: TrustMode,
    pub(crate) leaf: Vec<u8>,
    pub(crate) shown: Vec<&'a Authority>,
    pub(crate) name: &'a str,
    pub(crate) now: u64,
    pub(crate) purpose: Purpose,
}

impl<'a> Row<'a> {
    pub(crate) fn new(bundle: Bundle, leaf: Vec<u8>) -> Self {
        let (mode, purpose) = (TrustMode::Store, Purpose::Server);
        Self { bundle, mode, leaf, shown: Vec::new(), name: HOST, now: NOW, purpose }
    }

    pub(crate) fn showing(mut self, authorities: &[&'a Authority]) -> Self {
        self.shown = authorities.to_vec();
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Bundle)) -> Self {
        change(&mut self.bundle);
        self
    }

    fn named(self, name: &'a str) -> Self {
        Self { name, ..self }
    }

    fn at(self, now: u64) -> Self {
        Self { now, ..self }
    }

    fn mode(self, mode: TrustMode) -> Self {
        Self { mode, ..self }
    }

    fn client(self) -> Self {
        Self { purpose: Purpose::Client, ..self }
    }

    /// The code and the sentence, from the function itself.
    pub(crate) fn decide(&self) -> (&'static str, String) {
        let mut shown: Vec<&[u8]> = vec![&self.leaf];
        shown.extend(self.shown.iter().map(|authority| authority.der.as_slice()));
        let (mode, name, now_unix, purpose) = (self.mode, Some(self.name), self.now, self.purpose);
        match decide(&self.bundle, &Question { mode, shown: &shown, name, now_unix, purpose }) {
            Ok(accepted) => (accepted.code(), accepted.to_string()),
            Err(refusal) => (refusal.code(), refusal.to_string()),
        }
    }
}

pub(crate) fn root() -> Authority {
    Authority::root("Plant CA", |_| {})
}

pub(crate) fn plain(_: &mut CertificateParams) {}

fn with_names(names: &'static [&'static str]) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        let name = |name: &&str| SanType::DnsName((*name).try_into().unwrap());
        params.subject_alt_names = names.iter().map(name).collect();
    }
}

fn root_named_alike() -> Authority {
    Authority::root("Plant CA", |params| params.serial_number = Some(SerialNumber::from(7_u64)))
}

#[test]
fn what_leads_to_a_trusted_authority_is_accepted() {
    let root = root();
    let middle = root.below("Line CA", plain);
    let low = middle.below("Cell CA", plain);
    let (a, b, c) = (root.leaf(plain), middle.leaf(plain), low.leaf(plain));
    let known = |bundle: &mut Bundle| bundle.intermediates = vec![middle.der.clone()];
    let pin = |der: &[u8]| Bundle { pinned: vec![der.to_vec()], ..Bundle::default() };
    let own = self_signed(plain);
    let own_ca = self_signed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    check(vec![
        ("directly", Row::new(root.trusted(), a.clone()), CHAIN, "CN=Plant CA"),
        (
            "over one that is known",
            Row::new(root.trusted(), b.clone()).with(known),
            CHAIN,
            "Line CA ← CN=Plant",
        ),
        ("over one that is shown", Row::new(root.trusted(), b.clone()).showing(&[&middle]), CHAIN, "Line CA"),
        (
            "over two, in any order",
            Row::new(root.trusted(), c.clone()).showing(&[&low, &middle]),
            CHAIN,
            "Cell CA ←",
        ),
        (
            "over two, the other order",
            Row::new(root.trusted(), c.clone()).showing(&[&middle, &low]),
            CHAIN,
            "",
        ),
        ("to one in the middle", Row::new(middle.trusted(), b.clone()), CHAIN, "CN=Line CA"),
        ("with its root among the shown", Row::new(root.trusted(), a.clone()).showing(&[&root]), CHAIN, ""),
        ("pinned", Row::new(pin(&own), own.clone()), PINNED, "itself"),
        ("pinned, though an authority's", Row::new(pin(&own_ca), own_ca.clone()), PINNED, ""),
        ("pinned, whoever signed it", Row::new(pin(&a), a), PINNED, ""),
    ]);
}

#[test]
fn what_nobody_here_knows_is_unknown_whatever_else_is_wrong_with_it() {
    let (ours, theirs) = (root(), Authority::root("Foreign CA", plain));
    let middle = theirs.below("Foreign Line CA", plain);
    let ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let old = |params: &mut CertificateParams| params.not_after = day!(-5);
    let only_completes = |bundle: &mut Bundle| bundle.intermediates = vec![theirs.der.clone()];
    let unknown = "tls.unknown_certificate";
    check(vec![
        ("self-signed", Row::new(ours.trusted(), self_signed(plain)), unknown, "not trusted here"),
        ("self-signed authority", Row::new(ours.trusted(), self_signed(ca)), unknown, "not trusted here"),
        ("self-signed and old", Row::new(ours.trusted(), self_signed(old)), unknown, "not trusted here"),
        (
            "another authority",
            Row::new(ours.trusted(), theirs.leaf(plain)),
            "tls.unknown_issuer",
            "`CN=Foreign CA`",
        ),
        ("another authority, old", Row::new(ours.trusted(), theirs.leaf(old)), "tls.unknown_issuer", ""),
        (
            "bringing its own chain",
            Row::new(ours.trusted(), middle.leaf(old)).showing(&[&middle, &theirs]),
            "tls.unknown_issuer",
            "Foreign Line CA",
        ),
        (
            "its issuer only completes chains",
            Row::new(ours.trusted(), theirs.leaf(plain)).with(only_completes),
            "tls.unknown_issuer",
            "put it into `trusted/certs`",
        ),
        ("nothing is trusted", Row::new(Bundle::default(), theirs.leaf(plain)), "tls.unknown_issuer", ""),
    ]);
}

#[test]
fn names_are_compared_as_rfc_9525_says() {
    let root = root();
    let row = |names| Row::new(root.trusted(), root.leaf(with_names(names)));
    let plain_row = || Row::new(root.trusted(), root.leaf(plain));
    let six = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::IpAddress("fd00::5".parse().unwrap())];
    };
    let wrong = "tls.name_mismatch";
    check(vec![
        ("capitals", plain_row().named("NODE-A.Plant.LOCAL"), CHAIN, ""),
        ("the dot at the end", plain_row().named("node-a.plant.local."), CHAIN, ""),
        ("an address", plain_row().named("10.0.0.5"), CHAIN, ""),
        ("an IPv6 address", Row::new(root.trusted(), root.leaf(six)).named("[fd00:0::5]"), CHAIN, ""),
        ("a wildcard", row(&["*.plant.local"]), CHAIN, ""),
        (
            "another name",
            plain_row().named("plc7"),
            wrong,
            "name `plc7` not in certificate: has `node-a.plant.local`, 10.0.0.5",
        ),
        ("another address", plain_row().named("10.0.0.6"), wrong, "`10.0.0.6`"),
        ("an address as a name", row(&["10.0.0.5"]).named("10.0.0.5"), wrong, ""),
        ("two labels for a wildcard", row(&["*.local"]), wrong, "`*.local`"),
        ("no label for a wildcard", row(&["*.plant.local"]).named("plant.local"), wrong, ""),
        ("a wildcard inside a label", row(&["n*.plant.local"]), wrong, ""),
        ("a wildcard further right", row(&["node-a.*.local"]), wrong, ""),
        ("no names, only a common name", row(&[]).named("node-a"), wrong, "has no names"),
        ("a prefix of the name", plain_row().named("node-a.plant"), wrong, ""),
        ("no name at all", plain_row().named("a b"), "tls.bad_host", "`a b` is neither"),
    ]);
}

#[test]
fn each_mode_trusts_whom_it_says() {
    let (root, own) = (root(), self_signed(plain));
    let leaf = root.leaf(plain);
    let system = |roots: Vec<Vec<u8>>, problems: &[&str]| Bundle {
        system: Some(SystemRoots {
            roots,
            problems: problems.iter().map(|&problem| problem.to_owned()).collect(),
        }),
        ..Bundle::default()
    };
    let by_system = |bundle: Bundle, leaf: &[u8]| Row::new(bundle, leaf.to_vec()).mode(TrustMode::System);
    let pinned = Bundle {
        pinned: vec![own.clone()],
        issuers: vec![root.der.clone()],
        ..system(vec![root_named_alike().der], &[])
    };
    let rejected = |bundle: &mut Bundle| bundle.distrusted = BTreeSet::from([Fingerprint::of(&leaf)]);
    let (none, all) = ("tls.no_system_roots", "tls.accepted_all");
    check(vec![
        ("system: its roots", by_system(system(vec![root.der.clone()], &[]), &leaf), CHAIN, "Plant CA"),
        (
            "system: names count",
            by_system(system(vec![root.der.clone()], &[]), &leaf).named("x"),
            "tls.name_mismatch",
            "",
        ),
        (
            "system: rejected",
            by_system(system(vec![root.der.clone()], &[]), &leaf).with(rejected),
            "tls.distrusted",
            "",
        ),
        ("system: pinned ones do not count", by_system(pinned.clone(), &own), "tls.unknown_certificate", ""),
        (
            "system: the store's authorities do not count",
            by_system(pinned.clone(), &leaf),
            "tls.chain_signature",
            "",
        ),
        (
            "system: no roots",
            by_system(system(Vec::new(), &["no file was found"]), &leaf),
            none,
            ": no file was found",
        ),
        ("system: not read", by_system(Bundle::default(), &leaf), none, "empty or cannot be read"),
        (
            "store: the system's roots do not count",
            Row::new(system(vec![root.der.clone()], &[]), leaf.clone()),
            "tls.unknown_issuer",
            "",
        ),
        (
            "store: nothing is known",
            Row::new(Bundle::unusable("asleep"), leaf.clone()),
            "tls.store_unreadable",
            "asleep",
        ),
        (
            "all: anything",
            Row::new(Bundle::default(), vec![1, 2, 3]).mode(TrustMode::All),
            all,
            "every certificate",
        ),
        (
            "all: nothing is known",
            Row::new(Bundle::unusable("asleep"), leaf.clone()).mode(TrustMode::All),
            all,
            "",
        ),
        (
            "all: rejected",
            Row::new(Bundle::default(), leaf.clone()).with(rejected).mode(TrustMode::All),
            all,
            "",
        ),
    ]);
}

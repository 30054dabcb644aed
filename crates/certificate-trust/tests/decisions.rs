//! The decision, over a table of certificates: each has one thing that is wrong, or none, and each verdict its code.
#![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

#[path = "support/authority.rs"]
mod authority;

use std::collections::BTreeSet;
use std::time::Duration;

use authority::{Authority, HOST, day, self_signed};
use certificate_trust::{Bundle, Fingerprint, Purpose, Question, SystemRoots, TrustMode, decide, parse_crls};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CustomExtension, DnType, ExtendedKeyUsagePurpose as Eku,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose as Ku, NameConstraints, SanType, SerialNumber,
};

const NOW: u64 = 1_795_305_600;
const DAY: u64 = 86_400;
const PINNED: &str = "tls.accepted_pinned";
const CHAIN: &str = "tls.accepted_chain";

/// What is asked, with everything that most rows have in common.
struct Row<'a> {
    bundle: Bundle,
    mode: TrustMode,
    leaf: Vec<u8>,
    shown: Vec<&'a Authority>,
    name: &'a str,
    now: u64,
    purpose: Purpose,
}

impl<'a> Row<'a> {
    fn new(bundle: Bundle, leaf: Vec<u8>) -> Self {
        let (mode, purpose) = (TrustMode::Store, Purpose::Server);
        Self { bundle, mode, leaf, shown: Vec::new(), name: HOST, now: NOW, purpose }
    }

    fn showing(mut self, authorities: &[&'a Authority]) -> Self {
        self.shown = authorities.to_vec();
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Bundle)) -> Self {
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

    /// The code and the sentence.
    fn decide(&self) -> (&'static str, String) {
        let mut shown: Vec<&[u8]> = vec![&self.leaf];
        shown.extend(self.shown.iter().map(|authority| authority.der.as_slice()));
        let (mode, name, now_unix, purpose) = (self.mode, Some(self.name), self.now, self.purpose);
        match decide(&self.bundle, &Question { mode, shown: &shown, name, now_unix, purpose }) {
            Ok(accepted) => (accepted.code(), accepted.to_string()),
            Err(refusal) => (refusal.code(), refusal.to_string()),
        }
    }
}

/// Each row: what it shows, the row, the code, and a part of the sentence.
fn check(rows: Vec<(&str, Row<'_>, &str, &str)>) {
    for (what, row, code, words) in rows {
        let (found, sentence) = row.decide();
        assert_eq!(found, code, "{what}: {sentence}");
        assert!(sentence.contains(words), "{what}: `{words}` is missing in: {sentence}");
        assert!(!sentence.contains("Error") && !sentence.contains("  "), "{what}: {sentence}");
    }
}

fn root() -> Authority {
    Authority::root("Plant CA", |_| {})
}

fn plain(_: &mut CertificateParams) {}

fn with_names(names: &'static [&'static str]) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        let name = |name: &&str| SanType::DnsName((*name).try_into().unwrap());
        params.subject_alt_names = names.iter().map(name).collect();
    }
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
fn time_is_judged_of_every_certificate_of_the_chain() {
    let root = root();
    let old = root.below("Old CA", |params| params.not_after = day!(-3));
    let new = root.below("New CA", |params| params.not_before = day!(3));
    let root_of = |change: fn(&mut CertificateParams)| Authority::root("Timed CA", change);
    let old_root = root_of(|params| params.not_after = day!(-3));
    let new_root = root_of(|params| params.not_before = day!(3));
    // A renewed authority: the same name and key, the old certificate beside the new one.
    let key = || KeyPair::from_pem(&old_root.key.serialize_pem()).unwrap();
    let renewed = Authority::root_with("Timed CA", key(), plain);
    let both = Bundle { issuers: vec![old_root.der.clone(), renewed.der.clone()], ..Bundle::default() };
    let row = |change: fn(&mut CertificateParams)| Row::new(root.trusted(), root.leaf(change));
    let own = self_signed(plain);
    let pinned = || Row::new(Bundle { pinned: vec![own.clone()], ..Bundle::default() }, own.clone());
    let (expired, early) = ("tls.expired", "tls.not_yet_valid");
    check(vec![
        ("old", row(|params| params.not_after = day!(-3)), expired, "it expired 3 days ago, at 2026-11-19"),
        ("of the future", row(|params| params.not_before = day!(2)), early, "clocks"),
        ("its last second", row(|params| params.not_after = day!(0)), CHAIN, ""),
        ("one second later", row(|params| params.not_after = day!(0)).at(NOW + 1), expired, "1 second ago"),
        ("its first second", row(|params| params.not_before = day!(0)), CHAIN, ""),
        ("one second earlier", row(|params| params.not_before = day!(0)).at(NOW - 1), early, "1 second"),
        ("pinned and old", pinned().at(NOW + 400 * DAY), expired, "35 days ago"),
        ("pinned and of the future", pinned().at(NOW - 11 * DAY), early, "1 day"),
        (
            "an old one between",
            Row::new(root.trusted(), old.leaf(plain)).showing(&[&old]),
            "tls.issuer_expired",
            "`CN=Old CA` above it expired 3 days ago",
        ),
        (
            "a future one between",
            Row::new(root.trusted(), new.leaf(plain)).showing(&[&new]),
            "tls.issuer_not_yet_valid",
            "New CA",
        ),
        (
            "an old trusted one",
            Row::new(old_root.trusted(), old_root.leaf(plain)),
            "tls.issuer_expired",
            "Timed CA",
        ),
        (
            "a future trusted one",
            Row::new(new_root.trusted(), new_root.leaf(plain)),
            "tls.issuer_not_yet_valid",
            "",
        ),
        ("an old trusted one that was renewed", Row::new(both, old_root.leaf(plain)), CHAIN, "Timed CA"),
    ]);
}

#[test]
fn usages_are_kept_to() {
    let root = root();
    let row = |change: fn(&mut CertificateParams)| Row::new(root.trusted(), root.leaf(change));
    let clients = root.below("Clients' CA", |params| params.extended_key_usages = vec![Eku::ClientAuth]);
    let no_signer = root.below("No signer", |params| params.key_usages = vec![Ku::CrlSign]);
    let no_ca = root.below("No CA", |params| params.is_ca = IsCa::ExplicitNoCa);
    let nothing_said = root.below("Says nothing", |params| params.is_ca = IsCa::NoCa);
    let ca_leaf = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let below = |authority| Row::new(root.trusted(), Authority::leaf(authority, plain)).showing(&[authority]);
    let pinned = self_signed(|params| params.extended_key_usages = vec![Eku::ClientAuth]);
    let wrong = "tls.wrong_usage";
    check(vec![
        (
            "a client's as a server",
            row(|p| p.extended_key_usages = vec![Eku::ClientAuth]),
            wrong,
            "does not allow a server",
        ),
        ("a server's as a client", row(plain).client(), wrong, "does not allow a client"),
        (
            "a client's as a client",
            row(|p| p.extended_key_usages = vec![Eku::ClientAuth]).client(),
            CHAIN,
            "",
        ),
        ("both", row(|p| p.extended_key_usages = vec![Eku::ClientAuth, Eku::ServerAuth]).client(), CHAIN, ""),
        ("none said", row(|p| p.extended_key_usages.clear()), CHAIN, ""),
        ("none said, a client", row(|p| p.extended_key_usages.clear()).client(), CHAIN, ""),
        (
            "for code only",
            row(|p| p.extended_key_usages = vec![Eku::CodeSigning]),
            wrong,
            "does not allow a server",
        ),
        ("no signatures", row(|p| p.key_usages = vec![Ku::KeyEncipherment]), wrong, "digital signatures"),
        ("no key usage said", row(|p| p.key_usages.clear()), CHAIN, ""),
        (
            "pinned, a client's",
            Row::new(Bundle { pinned: vec![pinned.clone()], ..Bundle::default() }, pinned),
            wrong,
            "a server",
        ),
        ("an authority's itself", row(ca_leaf), "tls.ca_as_leaf", "only when it is trusted itself"),
        ("signed by a clients' authority", below(&clients), wrong, "authority"),
        ("signed by what may not sign", below(&no_signer), "tls.issuer_not_ca", "`CN=No signer`"),
        ("signed by what is no authority", below(&no_ca), "tls.issuer_not_ca", "`CN=No CA`"),
        ("signed by what does not say so", below(&nothing_said), "tls.issuer_not_ca", ""),
    ]);
}

#[test]
fn constraints_of_authorities_bind_what_is_below_them() {
    let limited = |most| {
        move |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(most))
    };
    let (root, none_between) = (root(), Authority::root("Direct CA", limited(0)));
    let (one_between, over) = (Authority::root("One CA", limited(1)), none_between.below("Too many", plain));
    let below_one = one_between.below("Fits", plain);
    let narrow = root.below("Narrow", limited(0));
    let too_deep = narrow.below("Too deep", plain);
    let names = |permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>| {
        move |params: &mut CertificateParams| {
            let (permitted_subtrees, excluded_subtrees) = (permitted, excluded);
            params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees });
        }
    };
    let dns = |name: &str| GeneralSubtree::DnsName(name.to_owned());
    let net = |address, bits| GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix(address, bits));
    let fitting = root.below("Fitting", names(vec![dns("plant.local"), net([10, 0, 0, 0], 8)], Vec::new()));
    let other_names = root.below("Office", names(vec![dns("office.local")], Vec::new()));
    let other_net =
        root.below("Other net", names(vec![dns("plant.local"), net([10, 9, 0, 0], 16)], Vec::new()));
    let excluded = root.below("Not this", names(Vec::new(), vec![dns("node-a.plant.local")]));
    let root_names = Authority::root("Office root", names(vec![dns("office.local")], Vec::new()));
    let below = |authority: &'static str, by| {
        (authority, Row::new(root.trusted(), Authority::leaf(by, plain)).showing(&[by]))
    };
    let (length, name) = ("tls.path_length", "tls.name_constraint");
    let (fits, row) = below("names that it may sign for", &fitting);
    let (other, other_row) = below("names that it may not sign for", &other_names);
    let (net, net_row) = below("an address that it may not sign for", &other_net);
    let (not, not_row) = below("a name that is excluded", &excluded);
    check(vec![
        ("none between, none there", Row::new(none_between.trusted(), none_between.leaf(plain)), CHAIN, ""),
        (
            "none between, one there",
            Row::new(none_between.trusted(), over.leaf(plain)).showing(&[&over]),
            length,
            "path length",
        ),
        (
            "one between, one there",
            Row::new(one_between.trusted(), below_one.leaf(plain)).showing(&[&below_one]),
            CHAIN,
            "",
        ),
        (
            "too deep below one between",
            Row::new(root.trusted(), too_deep.leaf(plain)).showing(&[&too_deep, &narrow]),
            length,
            "",
        ),
        (fits, row, CHAIN, ""),
        (other, other_row, name, "may not sign for its names: `node-a.plant.local`, 10.0.0.5"),
        (net, net_row, name, "10.0.0.5"),
        (not, not_row, name, ""),
        ("the trusted one's own", Row::new(root_names.trusted(), root_names.leaf(plain)), name, ""),
    ]);
}

#[test]
fn signatures_and_bytes_are_what_they_say() {
    let root = root();
    let impostor = root_named_alike();
    let edwards =
        Authority::root_with("Edwards CA", KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(), plain);
    // Ed448, which is not accepted, in the place of Ed25519: 1.3.101.113 for 1.3.101.112.
    let mut other_algorithm = edwards.leaf(plain);
    for place in 0..other_algorithm.len() - 3 {
        if other_algorithm[place..place + 3] == [0x2b, 0x65, 0x70] {
            other_algorithm[place + 2] = 0x71;
        }
    }
    let mut changed = root.leaf(plain);
    let names = changed.windows(6).position(|bytes| bytes == b"node-a").unwrap();
    changed[names + 5] = b'b';
    let extension = |is_critical| {
        move |params: &mut CertificateParams| {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4, 5], vec![5, 0]);
            extension.set_criticality(is_critical);
            params.custom_extensions = vec![extension];
        }
    };
    let whole = root.leaf(plain);
    let row = |leaf: Vec<u8>| Row::new(root.trusted(), leaf);
    check(vec![
        ("signed by one of the same name", row(impostor.leaf(plain)), "tls.chain_signature", "`CN=Plant CA`"),
        ("changed afterwards", row(changed), "tls.chain_signature", ""),
        ("Ed25519", Row::new(edwards.trusted(), edwards.leaf(plain)), CHAIN, ""),
        (
            "an algorithm that is not accepted",
            Row::new(edwards.trusted(), other_algorithm),
            "tls.chain_algorithm",
            "not accepted",
        ),
        ("a critical extension", row(root.leaf(extension(true))), "tls.unknown_extension", "critical"),
        ("the same, not critical", row(root.leaf(extension(false))), CHAIN, ""),
        ("nothing", row(Vec::new()), "tls.bad_certificate", ""),
        ("garbage", row(vec![0x30; 100]), "tls.bad_certificate", ""),
        ("cut", row(whole[..whole.len() - 1].to_vec()), "tls.bad_certificate", ""),
        ("more than one", row([whole.clone(), vec![0]].concat()), "tls.bad_certificate", "1 bytes follow"),
        ("too large", row(vec![0x30; 70_000]), "tls.bad_certificate", "70000 bytes"),
    ]);
}

fn root_named_alike() -> Authority {
    Authority::root("Plant CA", |params| params.serial_number = Some(SerialNumber::from(7_u64)))
}

#[test]
fn what_an_operator_has_rejected_is_never_accepted() {
    let root = root();
    let middle = root.below("Line CA", plain);
    let same = Authority {
        params: middle.params.clone(),
        key: KeyPair::from_pem(&middle.key.serialize_pem()).unwrap(),
        der: Vec::new(),
    };
    let again = same.params.signed_by(&same.key, &root.issuer()).unwrap().der().to_vec();
    let (leaf, below) = (root.leaf(plain), middle.leaf(plain));
    let reject = |der: &[u8]| {
        let fingerprint = Fingerprint::of(der);
        move |bundle: &mut Bundle| bundle.distrusted = BTreeSet::from([fingerprint])
    };
    let pinned = Bundle { pinned: vec![leaf.clone()], ..Bundle::default() };
    let it = "tls.distrusted";
    check(vec![
        ("it", Row::new(root.trusted(), leaf.clone()).with(reject(&leaf)), it, "rejected by an operator"),
        ("it, though pinned", Row::new(pinned, leaf.clone()).with(reject(&leaf)), it, ""),
        (
            "who signed it",
            Row::new(root.trusted(), leaf.clone()).with(reject(&root.der)),
            "tls.issuer_distrusted",
            "CN=Plant CA",
        ),
        (
            "one between",
            Row::new(root.trusted(), below.clone()).showing(&[&middle]).with(reject(&middle.der)),
            "tls.issuer_distrusted",
            "CN=Line CA",
        ),
        (
            "one between, and another way",
            Row::new(root.trusted(), below)
                .showing(&[&middle])
                .with(reject(&middle.der))
                .with(|bundle| bundle.intermediates = vec![again]),
            CHAIN,
            "",
        ),
        ("another one", Row::new(root.trusted(), leaf).with(reject(&middle.der)), CHAIN, ""),
    ]);
}

#[test]
fn revocation_lists_count() {
    let root = root();
    let middle = root.below("Line CA", |params| params.serial_number = Some(SerialNumber::from(7_u64)));
    let no_lists = Authority::root("No lists", |params| params.key_usages = vec![Ku::KeyCertSign]);
    let other = no_lists.below("Other CA", |params| params.key_usages = vec![Ku::KeyCertSign]);
    let (leaf, below) = (root.leaf(plain), middle.leaf(plain));
    let lists = |crls: Vec<Vec<u8>>| move |bundle: &mut Bundle| bundle.crls = crls;
    let row = |crls| Row::new(root.trusted(), leaf.clone()).with(lists(crls));
    let row_below = |crls| Row::new(root.trusted(), below.clone()).showing(&[&middle]).with(lists(crls));
    let unsigned = Authority {
        params: other.params.clone(),
        key: KeyPair::from_pem(&other.key.serialize_pem()).unwrap(),
        der: Vec::new(),
    };
    let may_sign_none = Authority {
        params: {
            let mut p = unsigned.params.clone();
            p.key_usages.push(Ku::CrlSign);
            p
        },
        ..unsigned
    };
    let unreadable = |bundle: &mut Bundle| {
        bundle.unreadable_crls = vec!["the revocation list `x` cannot be used".to_owned()]
    };
    let pinned = Bundle { pinned: vec![leaf.clone()], ..Bundle::default() };
    let (revoked, unknown) = ("tls.revoked", "tls.revocation_unknown");
    let (with, without) = (|made| root.crl(&[42], made, 30), |made| root.crl(&[43], made, 30));
    check(vec![
        ("it is listed", row(vec![with(-1)]), revoked, "it was revoked by its issuer"),
        ("another is listed", row(vec![without(-1)]), CHAIN, ""),
        ("nothing is listed", row(vec![root.crl(&[], -1, 30)]), CHAIN, ""),
        ("a list of another authority", row(vec![middle.crl(&[42], -1, 30)]), CHAIN, ""),
        ("one between is listed", row_below(vec![root.crl(&[7], -1, 30)]), revoked, "an authority above it"),
        ("its number in another's list", row_below(vec![root.crl(&[42], -1, 30)]), CHAIN, ""),
        ("the list is too old", row(vec![root.crl(&[], -30, -2)]), "tls.crl_expired", "expired 2 days ago"),
        ("the newer list counts, it is on it", row(vec![without(-9), with(-1)]), revoked, ""),
        ("the newer list counts, it is not", row(vec![with(-9), without(-1)]), CHAIN, ""),
        ("an old list beside a new one", row(vec![root.crl(&[], -30, -2), without(-1)]), CHAIN, ""),
        (
            "a list signed by one of the same name",
            row(vec![root_named_alike().crl(&[], -1, 30)]),
            unknown,
            "not signed by that one",
        ),
        (
            "a list of one that may sign none",
            Row::new(no_lists.trusted(), other.leaf(plain))
                .showing(&[&other])
                .with(lists(vec![may_sign_none.crl(&[], -1, 30)])),
            unknown,
            "may not sign any",
        ),
        ("a list cannot be read", Row::new(root.trusted(), leaf.clone()).with(unreadable), unknown, "`x`"),
        ("the same of a pinned one", Row::new(pinned.clone(), leaf.clone()).with(unreadable), PINNED, ""),
        (
            "pinned and listed",
            Row::new(pinned.clone(), leaf.clone()).with(lists(vec![with(-1)])),
            revoked,
            "",
        ),
        ("pinned and not listed", Row::new(pinned, leaf.clone()).with(lists(vec![without(-1)])), PINNED, ""),
    ]);
    let list = with(-1);
    assert_eq!(parse_crls(&list).unwrap(), vec![list.clone()], "and each of them can be read from a file");
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

/// A stranger may show what he likes: bounded in time, and never a panic.
#[test]
fn a_maze_of_authorities_is_left_in_time() {
    let root = root();
    let key = KeyPair::generate().unwrap();
    // Sixty authorities with one name and many keys, each signed by another of them.
    let mut maze = vec![root.below("Maze", plain)];
    for _ in 0..60 {
        maze.push(
            maze[maze.len() - 1]
                .below("Maze", |params| params.distinguished_name.push(DnType::CommonName, "Maze")),
        );
    }
    let leaf = maze[60].leaf_with(&key, plain);
    let all: Vec<&Authority> = maze.iter().collect();
    let begun = std::time::Instant::now();
    let (code, _) = Row::new(root.trusted(), leaf).showing(&all).decide();
    assert!(code != CHAIN, "{code}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

//! What authorities may do, and what is checked of each certificate of a chain.

use super::*;

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

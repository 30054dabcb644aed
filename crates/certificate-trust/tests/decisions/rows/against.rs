//! What speaks against a certificate that would be accepted: an operator's word, a revocation list.

use super::*;

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

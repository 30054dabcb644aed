//! What will run out, in time to do something: 30, 7 and 1 days before, and when it has.
//!
//! Pure: a bundle and a time come in. Whoever journals it says each thing once per step ([`Expiring::subject`] and
//! [`Expiring::urgency`] name it); as a warning it stands as long as it lasts. The system's roots are not looked at: their
//! owner is the distribution.

use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::Fingerprint;
use crate::bundle::{Bundle, Der};
use crate::certificate::{CertificateFacts, printable, rfc3339, span};

const DAY: i64 = 86_400;

/// How soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Within 30 days.
    Month,
    /// Within 7 days.
    Week,
    /// Within a day.
    Day,
    /// It has.
    Over,
}

impl Urgency {
    /// Of what is valid until `end`; `None`: there is time. RFC 5280 §4.1.2.5: the last second is inside.
    fn of(end: i64, now: i64) -> Option<Self> {
        match end.saturating_sub(now) {
            left if left < 0 => Some(Self::Over),
            left if left <= DAY => Some(Self::Day),
            left if left <= 7 * DAY => Some(Self::Week),
            left if left <= 30 * DAY => Some(Self::Month),
            _ => None,
        }
    }

    /// Whether somebody has to act today.
    #[must_use]
    pub const fn is_pressing(self) -> bool {
        matches!(self, Self::Day | Self::Over)
    }
}

/// Something that runs out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiring {
    /// What it is: SHA-256 over the certificate or the revocation list.
    pub subject: Fingerprint,
    /// How soon.
    pub urgency: Urgency,
    /// What, when, and what to do, for people.
    pub sentence: String,
}

/// Everything in the bundle that runs out within 30 days, or has, the most urgent first.
#[must_use]
pub fn expiring(bundle: &Bundle, now_unix: u64) -> Vec<Expiring> {
    let now = i64::try_from(now_unix).unwrap_or(i64::MAX);
    let own = bundle.own.iter().flat_map(|own| own.chain.iter().take(1));
    let mut all: Vec<Expiring> = own.filter_map(|der| of_certificate(der, Kind::Own, now)).collect();
    all.extend(bundle.pinned.iter().filter_map(|der| of_certificate(der, Kind::Trusted, now)));
    all.extend(bundle.intermediates.iter().filter_map(|der| of_certificate(der, Kind::Issuer, now)));
    all.extend(bundle.crls.iter().filter_map(|der| of_list(der, now)));
    all.sort_by_key(|expiring| core::cmp::Reverse(expiring.urgency));
    all
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Own,
    Trusted,
    Issuer,
}

fn of_certificate(der: &Der, kind: Kind, now: i64) -> Option<Expiring> {
    let facts = CertificateFacts::read(der).ok()?;
    let urgency = Urgency::of(facts.not_after, now)?;
    let (what, todo) = match kind {
        Kind::Own => (
            "this node's own certificate",
            "`onduty certs renew` makes the next one, or `onduty certs request` asks an authority for it",
        ),
        Kind::Trusted => (
            "the trusted certificate",
            "get the new one from its owner and import it with `onduty certs import`",
        ),
        Kind::Issuer => (
            "the certificate of an authority",
            "get the new one and import it with `onduty certs import --intermediate`",
        ),
    };
    let when = when(facts.not_after, now);
    let over = if urgency == Urgency::Over && kind == Kind::Own {
        "; the other node refuses it at its next dial, unless it trusts `all`"
    } else {
        ""
    };
    let sentence = format!("{what} {facts} {when}{over}: {todo}");
    Some(Expiring { subject: facts.fingerprint, urgency, sentence })
}

/// A list is made anew every few days: it is worth a word only when nobody seems to do it.
fn of_list(der: &Der, now: i64) -> Option<Expiring> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    let end = list.next_update()?.timestamp();
    let urgency = Urgency::of(end, now).filter(|urgency| urgency.is_pressing())?;
    let (issuer, when) = (printable(&list.issuer().to_string()), when(end, now));
    let sentence = format!(
        "the revocation list of `{issuer}` {when}: without a newer one nothing that this authority has signed is accepted"
    );
    Some(Expiring { subject: Fingerprint::of(der), urgency, sentence })
}

fn when(end: i64, now: i64) -> String {
    let at = rfc3339(end);
    if now > end {
        format!("has expired {} ago, at {at}", span(now.saturating_sub(end)))
    } else {
        format!("expires in {}, at {at}", span(end.saturating_sub(now)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

    use zeroize::Zeroizing;

    use super::*;
    use crate::bundle::OwnPair;

    const NOW: u64 = 1_795_305_600;

    /// Valid until so many seconds from now.
    fn until(left: i64) -> Der {
        let end = i64::try_from(NOW).unwrap() + left;
        let mut params = rcgen::CertificateParams::new(vec!["node-a".to_owned()]).unwrap();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch;
        params.not_after = epoch + core::time::Duration::from_secs(u64::try_from(end).unwrap());
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn urgency(left: i64) -> Option<Urgency> {
        let bundle = Bundle { pinned: vec![until(left)], ..Bundle::default() };
        expiring(&bundle, NOW).first().map(|found| found.urgency)
    }

    #[test]
    fn each_step_is_as_long_before_the_end_as_it_says() {
        let steps = [
            (30 * DAY + 1, None),
            (30 * DAY, Some(Urgency::Month)),
            (7 * DAY + 1, Some(Urgency::Month)),
            (7 * DAY, Some(Urgency::Week)),
            (DAY + 1, Some(Urgency::Week)),
            (DAY, Some(Urgency::Day)),
            (0, Some(Urgency::Day)),
            (-1, Some(Urgency::Over)),
        ];
        for (left, expected) in steps {
            assert_eq!(urgency(left), expected, "{left} s");
        }
    }

    #[test]
    fn what_it_is_when_it_ends_and_what_to_do_are_said_the_most_urgent_first() {
        let own = OwnPair { chain: vec![until(-3 * DAY), until(-9 * DAY)], key_der: Zeroizing::default() };
        let bundle = Bundle {
            own: Some(own),
            pinned: vec![until(400 * DAY), until(20 * DAY)],
            intermediates: vec![until(DAY / 2)],
            ..Bundle::default()
        };
        let said: Vec<String> = expiring(&bundle, NOW).into_iter().map(|found| found.sentence).collect();
        let has = |index: usize, words: [&str; 3]| {
            assert!(words.iter().all(|word| said[index].contains(word)), "{}", said[index]);
        };
        assert_eq!(said.len(), 3, "the chain of the own one is its authority's business: {said:?}");
        has(0, ["this node's own certificate", "has expired 3 days ago, at 2026-11-19T", "certs renew`"]);
        has(1, ["of an authority", "expires in 12 hours", "--intermediate"]);
        has(2, ["the trusted certificate", "expires in 20 days, at 2026-12-12T", "certs import`"]);
    }
}

//! `redundancy.secondary.address`: where the primary is, once or once per network path.

use std::fmt;

use failover_core::PathId;
use figment::value::Value;

use super::node::DEFAULT_PORT;
use super::value::{Blank, Limits, Raw, Setting, as_json, quoted, show_raw};

/// Where the primary is reached: host and port out of an `https://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    host: url::Host<String>,
    port: u16,
}

impl PeerAddress {
    /// The host as name resolution wants it: an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> String {
        match &self.host {
            url::Host::Domain(name) => name.clone(),
            url::Host::Ipv4(address) => address.to_string(),
            url::Host::Ipv6(address) => address.to_string(),
        }
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}:{}", self.host, self.port)
    }
}

impl std::str::FromStr for PeerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let rule = |why: &str| format!("must be https://HOST or https://HOST:PORT: {why}");
        if text.to_ascii_lowercase().starts_with("http://") {
            return Err("http:// is refused: https is required".to_owned());
        }
        let url = url::Url::parse(text).map_err(|e| rule(&e.to_string()))?;
        if url.scheme() != "https" {
            return Err(rule("https is required"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(rule("a user name or password does not belong here"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(rule("nothing may follow the port"));
        }
        let host = url.host().ok_or_else(|| rule("the host is missing"))?.to_owned();
        let port = url.port().or_else(|| written_443(text)).unwrap_or(DEFAULT_PORT);
        if port == 0 {
            return Err(rule("port 0 cannot be dialled"));
        }
        Ok(Self { host, port })
    }
}

/// The parser drops 443, the usual port of https, as if it had not been written; here it means something. It keeps it where
/// another port is the usual one, however it was written.
fn written_443(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once(':')?;
    url::Url::parse(&format!("http:{rest}")).ok()?.port()
}

/// The primary's addresses, one per network path: 1 to [`PathId::MOST`], all different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddresses(Vec<PeerAddress>);

impl PeerAddresses {
    /// From addresses in the order of the paths.
    ///
    /// # Errors
    ///
    /// The rule that they break, as a sentence: there are none or too many, or two are the same.
    pub fn new(addresses: Vec<PeerAddress>) -> Result<Self, String> {
        if addresses.is_empty() {
            return Err(shape());
        }
        if addresses.len() > PathId::MOST {
            return Err(format!("at most {} addresses are possible, one per network path", PathId::MOST));
        }
        for (n, address) in addresses.iter().enumerate() {
            if let Some(first) = addresses.iter().take(n).position(|known| known == address) {
                let (first, second) = (first + 1, n + 1);
                return Err(format!(
                    "addresses {first} and {second} are the same ({address}): each network path needs its own"
                ));
            }
        }
        Ok(Self(addresses))
    }

    /// The addresses in the order of the paths.
    #[must_use]
    pub fn all(&self) -> &[PeerAddress] {
        &self.0
    }
}

/// The one path of a pair with one cable.
impl From<PeerAddress> for PeerAddresses {
    fn from(address: PeerAddress) -> Self {
        Self(vec![address])
    }
}

impl fmt::Display for PeerAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, address) in self.0.iter().enumerate() {
            write!(f, "{}{address}", if n == 0 { "" } else { " and " })?;
        }
        Ok(())
    }
}

impl Blank for PeerAddresses {
    fn blank() -> Self {
        Self(Vec::new())
    }
}

impl Setting for PeerAddresses {
    fn kind(&self) -> String {
        "https URL or list of them".to_owned()
    }

    fn read(&mut self, raw: Raw<'_>, _: Limits) -> Result<(), String> {
        let texts = written(raw)?;
        let number = |n: usize| if texts.len() > 1 { format!("address {}: ", n + 1) } else { String::new() };
        let read = |(n, text): (usize, &String)| text.parse().map_err(|rule| format!("{}{rule}", number(n)));
        let addresses = texts.iter().enumerate().map(read).collect::<Result<_, String>>()?;
        *self = Self::new(addresses)?;
        Ok(())
    }

    fn show(&self) -> Option<String> {
        let all: Vec<String> = self.0.iter().map(PeerAddress::to_string).collect();
        match &all[..] {
            [only] => Some(quoted(only)),
            _ => Some(as_json(all)),
        }
    }

    fn show_wrong(&self, value: &Value) -> String {
        // Somebody may have written a password into the address; all of it counts, also what is cut from a long one.
        let whole = serde_json::to_string(value).unwrap_or_default();
        if whole.contains('@') { "(not shown, it has a user name)".to_owned() } else { show_raw(value) }
    }
}

fn shape() -> String {
    format!(
        "must be an https URL such as \"https://other-node:5001\", or a list of up to {}, one per network path",
        PathId::MOST
    )
}

/// The texts as they were written; in a variable a list is JSON.
fn written(raw: Raw<'_>) -> Result<Vec<String>, String> {
    let listed = match raw.value.as_str() {
        Some(text) if raw.textual && text.trim_start().starts_with('[') => serde_json::from_str(text).ok(),
        Some(text) => Some(vec![text.to_owned()]),
        None => raw
            .value
            .as_array()
            .and_then(|all| all.iter().map(|value| value.as_str().map(str::to_owned)).collect()),
    };
    listed.ok_or_else(shape)
}

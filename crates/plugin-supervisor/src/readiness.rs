//! Whether a plugin is ready, asked from outside: a connection or a GET, again and again until it succeeds. (That a
//! plugin stays up, and the readiness command, are judged by the supervisor itself.)

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How soon after a failed attempt the next one follows: a plugin that has just begun is looked at often.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The pause grows up to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// One attempt may take this long.
const ATTEMPT: Duration = Duration::from_secs(2);
/// A status line is not longer than this.
const STATUS_LINE: usize = 256;

/// What a GET goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    host: String,
    address: String,
    path: String,
}

impl Target {
    /// Takes `http://host[:port][/path]` apart.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{url}` {why}");
        let rest = url.strip_prefix("http://").ok_or_else(|| wrong("does not begin with http://"))?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        if host.is_empty() || host.contains('@') {
            return Err(wrong("has no host, or a user name, which is not supported"));
        }
        if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong("holds a space or a control character"));
        }
        let has_port =
            host.rsplit_once(':').is_some_and(|(name, _)| !name.contains(':') || name.ends_with(']'));
        let address = if has_port { host.to_owned() } else { format!("{host}:80") };
        check_address(&address)?;
        let path = path.split('#').next().unwrap_or("/").to_owned();
        Ok(Self { host: host.to_owned(), address, path })
    }
}

/// Whether a text can be a `host:port`.
pub(crate) fn check_address(address: &str) -> Result<(), String> {
    let port =
        address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(port)) if port > 0 => Ok(()),
        Some(_) | None => Err(format!("`{address}` is not host:port with a port of 1 to 65535")),
    }
}

/// Ends when the address accepts a connection. Cancel-safe.
pub(crate) async fn wait_for_tcp(address: String) {
    let mut pause = FIRST_PAUSE;
    loop {
        if matches!(tokio::time::timeout(ATTEMPT, TcpStream::connect(&address)).await, Ok(Ok(_))) {
            return;
        }
        rest(&mut pause).await;
    }
}

/// Ends when the GET is answered with a status of 200 to 399. Cancel-safe.
pub(crate) async fn wait_for_http(target: Target) {
    let mut pause = FIRST_PAUSE;
    loop {
        if matches!(tokio::time::timeout(ATTEMPT, get(&target)).await, Ok(Ok(200..=399))) {
            return;
        }
        rest(&mut pause).await;
    }
}

async fn rest(pause: &mut Duration) {
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}

/// The status of the answer; 0 when it is none.
async fn get(target: &Target) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(&target.address).await?;
    let Target { host, path, .. } = target;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: onduty\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::new();
    let mut limited = stream.take(STATUS_LINE as u64);
    while !line.contains(&b'\n') {
        if limited.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    Ok(status(&line).unwrap_or(0))
}

fn status(line: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(line.split(|byte| *byte == b'\r').next()?).ok()?;
    let (version, rest) = text.split_once(' ')?;
    let digits = rest.get(..3)?;
    (version.starts_with("HTTP/1.") && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let target = |url| Target::parse(url).map(|t| (t.address, t.path));
        assert_eq!(target("http://a.b:8080/x?y#z"), Ok(("a.b:8080".to_owned(), "/x?y".to_owned())));
        assert_eq!(target("http://a.b"), Ok(("a.b:80".to_owned(), "/".to_owned())));
        assert_eq!(target("http://[::1]/"), Ok(("[::1]:80".to_owned(), "/".to_owned())));
        assert_eq!(target("http://[::1]:81"), Ok(("[::1]:81".to_owned(), "/".to_owned())));
        for bad in
            ["https://a/", "http://", "http://a:0/", "http://a:99999/", "http://u@a/", "http://a/ b", "a:80"]
        {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
        assert!(check_address("127.0.0.1:80").is_ok());
        assert!(check_address(":80").is_err());
        assert!(check_address("host").is_err());
    }

    #[test]
    fn only_a_real_status_line_counts() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\nX: y\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        for bad in [&b"SSH-2.0-x 200 OK\r\n"[..], b"HTTP/1.1 2", b"", b"\xff\xff", b"HTTP/1.1  200\r\n"] {
            assert_eq!(status(bad), None, "{bad:?}");
        }
    }
}

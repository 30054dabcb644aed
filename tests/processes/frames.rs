//! HTTP/2 by hand, for peers that send it in pieces, without end or against its rules: what a library would never send.
//!
//! RFC 9113 §4.1 (frames), RFC 7541 (headers; only literals that are not indexed), gRPC's message prefix of five bytes.

use std::time::Duration;

use test_support::boot_ns;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_OF_HEADERS: u8 = 4;
/// Between two pieces of what comes slowly: less than any pause after which a peer counts as silent.
const PIECE: Duration = Duration::from_millis(250);

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The headers of the heartbeat call.
fn call() -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let path = text("/onduty.heartbeat.v1.HeartbeatService/Session");
    // `:method: POST`, `:scheme: https`, then `:path`, `:authority` and two by name.
    let mut headers = [&[0x83, 0x87, 0x04][..], &path, &[0x01], &text("localhost")].concat();
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        headers.extend([&[0][..], &text(name), &text(value)].concat());
    }
    headers
}

fn opening(settings: &[u8]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()
}

/// What is sent: at once, then the pieces again and again until the node hangs up.
pub(crate) struct Script {
    pub(crate) name: &'static str,
    first: Vec<u8>,
    again: Vec<Vec<u8>>,
    /// Piece by piece; otherwise as fast as it is taken.
    slowly: bool,
}

/// What somebody can say who has got through TLS and knows no key.
pub(crate) fn scripts() -> Vec<Script> {
    let script = |name, first: &[&[u8]], again: &[&[u8]], slowly| Script {
        name,
        first: first.concat(),
        again: again.iter().map(|piece| piece.to_vec()).collect(),
        slowly,
    };
    let (opening, call) = (opening(&[]), frame(HEADERS, END_OF_HEADERS, 1, &call()));
    // A message of gRPC: not compressed, so many bytes.
    let message = |length: u32| frame(DATA, 0, 1, &[&[0][..], &length.to_be_bytes()].concat());
    let byte = frame(DATA, 0, 1, b"x");
    let full = vec![b'x'; 16 * 1024];
    let literal = [&[0, 1, b'x', 0x7f, 0x81, 0x7f][..], &[b'x'; 16_000]].concat();
    let begun = [&frame(HEADERS, 0, 1, &[0x83])[..]].concat();
    // SETTINGS_INITIAL_WINDOW_SIZE (4) of 0: nothing can be answered.
    let deaf = self::opening(&[0, 4, 0, 0, 0, 0]);
    vec![
        script("a preface in pieces", &[], &PREFACE.chunks(1).collect::<Vec<_>>(), true),
        script("settings in pieces", &[PREFACE], &[b"\0"], true),
        script("headers in pieces", &[&opening, &[0, 15, 0, HEADERS, 0, 0, 0, 0, 1]], &[b"\0"], true),
        script("a call and nothing more", &[&opening, &call], &[], true),
        script("a call over which nothing can be answered", &[&deaf, &call], &[], true),
        script("a message in pieces", &[&opening, &call, &message(60_000)], &[&byte], true),
        script("a message of four gigabytes", &[&opening, &call, &message(u32::MAX)], &[&byte], true),
        script(
            "an endless message",
            &[&opening, &call, &message(u32::MAX)],
            &[&frame(DATA, 0, 1, &full)],
            false,
        ),
        script(
            "a frame that is too large",
            &[&opening, &[0, 0xff, 0xff, HEADERS, 4, 0, 0, 0, 1]],
            &[&full],
            false,
        ),
        script("headers without end", &[&opening, &begun], &[&frame(CONTINUATION, 0, 1, &literal)], false),
        script("empty headers without end", &[&opening, &begun], &[&frame(CONTINUATION, 0, 1, &[])], false),
        script("pings without end", &[&opening], &[&frame(PING, 0, 0, &[7; 8])], false),
        script("settings without end", &[&opening], &[&frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9])], false),
        script("empty data without end", &[&opening, &call], &[&frame(DATA, 0, 1, &[])], false),
        script("no HTTP/2 and without end", &[], &[&full], false),
    ]
}

/// Plays a script until the node hangs up; gives how many milliseconds that took.
pub(crate) async fn play<IO: AsyncRead + AsyncWrite>(
    script: &Script,
    io: IO,
    limit: Duration,
) -> Option<f64> {
    let begun = boot_ns();
    let (mut from, mut to) = tokio::io::split(io);
    let say = async {
        let _ = to.write_all(&script.first).await;
        let _ = to.flush().await;
        for piece in script.again.iter().cycle() {
            if script.slowly {
                tokio::time::sleep(PIECE).await;
            }
            if to.write_all(piece).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
        std::future::pending().await
    };
    // It reads what it is told: only what it says itself is in its way.
    let listen = async { while from.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {} };
    let ended = async {
        tokio::select! {
            () = say => {}
            () = listen => {}
        }
    };
    tokio::time::timeout(limit, ended).await.ok()?;
    Some(test_support::ms_between(begun, boot_ns()))
}

/// What somebody can say without end who is dialled and knows no key.
pub(crate) fn answers() -> Vec<Script> {
    let script = |name, again: Vec<u8>| Script {
        name,
        first: frame(SETTINGS, 0, 0, &[]),
        again: vec![again.repeat(16 * 1024 / again.len())],
        slowly: false,
    };
    vec![
        script("pings without end", frame(PING, 0, 0, &[7; 8])),
        script("settings without end", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9])),
        script("frames that nobody knows without end", frame(0xEE, 0, 0, &[])),
    ]
}

/// Calls that are opened and given up at once, without end (CVE-2023-44487).
pub(crate) fn opened_and_given_up() -> Vec<u8> {
    let mut all = opening(&[]);
    for stream in 0..50_000_u32 {
        all.extend(frame(HEADERS, END_OF_HEADERS, 2 * stream + 1, &call()));
        all.extend(frame(RESET, 0, 2 * stream + 1, &[0, 0, 0, 8]));
    }
    all
}

//! Forged TCP resets: somebody on the way sees every packet and sends a reset that fits. It ends the connection, as a cut would,
//! and nothing more: the session is back at once, and nobody acts.
//!
//! ```text
//!   primary ◄──── heartbeats ────► secondary
//!              │ a packet socket reads them
//!              └ a raw socket sends: from the sender's address and port, next sequence number, RST
//! ```

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use test_support::{Side, boot_ns, ms_between, netns_wanted, timed, until};

use super::{PATIENCE, SLACK, pair};

const TCP: u8 = 6;
const RST: u8 = 4;

/// A TCP packet over IPv4, as it was read.
struct Seen {
    from: [u8; 4],
    to: [u8; 4],
    ports: [u8; 4],
    /// Of the byte after it.
    next: u32,
    payload: usize,
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte))
}

impl Seen {
    fn read(packet: &[u8]) -> Option<Self> {
        let header = usize::from(packet.first()? & 15) * 4;
        let tcp = packet.get(header..)?;
        if packet[0] >> 4 != 4 || *packet.get(9)? != TCP || tcp.len() < 20 {
            return None;
        }
        let payload = number(&packet[2..4]).checked_sub(header + usize::from(tcp[12] >> 4) * 4)?;
        let sequence = u32::from_be_bytes(tcp[4..8].try_into().ok()?);
        Some(Self {
            from: packet[12..16].try_into().ok()?,
            to: packet[16..20].try_into().ok()?,
            ports: tcp[..4].try_into().ok()?,
            next: sequence.wrapping_add(u32::try_from(payload).ok()?),
            payload,
        })
    }

    /// The reset that its receiver takes for its sender's.
    fn reset(&self) -> Vec<u8> {
        let mut tcp =
            [&self.ports[..], &self.next.to_be_bytes(), &[0; 4], &[5 << 4, RST, 0, 0, 0, 0, 0, 0]].concat();
        let pseudo = [&self.from[..], &self.to, &[0, TCP, 0, 20], &tcp].concat();
        let sum: usize = pseudo.chunks(2).map(number).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = u16::try_from((folded & 0xffff) + (folded >> 16)).expect("16 bits");
        tcp[16..18].copy_from_slice(&(!folded).to_be_bytes());
        // The kernel fills in length, identification and checksum.
        let header = [&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, TCP, 0, 0][..], &self.from, &self.to].concat();
        [header, tcp].concat()
    }
}

/// Waits for a packet with content to `to` at or from this port, and forges the reset for its receiver.
fn reset_next(to: Ipv4Addr, port: u16) {
    let open = |family, kind, protocol| -> OwnedFd {
        socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol).expect("a raw socket")
    };
    let reading = open(AddressFamily::Packet, SockType::Datagram, SockProtocol::EthAll);
    let patience = TimeVal::seconds(10);
    setsockopt(&reading, sockopt::ReceiveTimeout, &patience).expect("a time limit");
    let sending = open(AddressFamily::Inet, SockType::Raw, SockProtocol::Raw);
    let mut packet = [0; 65_536];
    loop {
        let length = recv(reading.as_raw_fd(), &mut packet, MsgFlags::empty()).expect("a packet");
        let Some(seen) = Seen::read(&packet[..length]) else { continue };
        let ours = seen.ports[..2] == port.to_be_bytes() || seen.ports[2..] == port.to_be_bytes();
        if !ours || seen.payload == 0 || seen.to != to.octets() {
            continue;
        }
        let there = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
        sendto(sending.as_raw_fd(), &seen.reset(), &there, MsgFlags::empty()).expect("the reset leaves");
        return;
    }
}

#[test]
fn a_forged_reset_ends_a_connection_and_no_more() {
    if !netns_wanted() {
        return;
    }
    let _turn = timed();
    let (pair, link) = pair(|options| options);
    let proved = || pair.secondary.log().matches("a session was proved").count();
    let events = |code: &str| {
        let said = |node: &test_support::Node| node.ask(&["events", "--json", "--limit", "500"]).stdout;
        [&pair.primary, &pair.secondary].map(|node| said(node).matches(&format!("\"{code}\"")).count())
    };
    let (before, disconnected) = (boot_ns(), events("peer_disconnected"));
    // Each side is told by somebody beside the other that its peer has hung up.
    for (beside, victim) in [(Side::A, Side::B), (Side::B, Side::A), (Side::A, Side::B)] {
        let (had, port) = (proved(), pair.port);
        let to: Ipv4Addr = link.address(victim).parse().expect("an address");
        link.on(beside, move || reset_next(to, port));
        let forged = boot_ns();
        until("a new session", PATIENCE, || (proved() > had).then_some(()));
        let took = ms_between(forged, boot_ns());
        println!("MEASURED back {took:.0} ms after a reset for {victim:?}");
        assert!(took <= 400.0 * SLACK, "back {took:.0} ms after the reset");
        pair.redundant();
    }
    // Longer than the takeover time, for something that must not happen.
    let since = boot_ns();
    until("time to pass", PATIENCE, || (ms_between(since, boot_ns()) > 1000.0).then_some(()));
    let canary = pair.canary();
    assert!(canary.first_of("node-b", before).is_none(), "nobody took over: {:#?}", canary.activities());
    assert!(canary.longest_outage_ms(before) < 100.0 * SLACK, "the plugins are undisturbed");
    assert_eq!(events("peer_disconnected"), disconnected);
    assert_eq!(events("tombstone_read"), [0, 0]);
}

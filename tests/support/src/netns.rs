//! Two network namespaces with one link between them, and what goes wrong on links. Needs root.
//!
//! ```text
//!   namespace od<N>a                       namespace od<N>b
//!   10.77.<N>.1  eth0 ═══════ veth ═══════ eth0  10.77.<N>.2
//!   10.78.<N>.1  eth1 ═══════ veth ═══════ eth1  10.78.<N>.2    (with two cables)
//!                 cut, one-way drop, refusal: rules of nft or iptables inside a namespace
//! ```
//!
//! `ONDUTY_TEST_NETNS` decides whether tests of this kind run: `off` never; `required` always, and a machine that
//! cannot is a failure; unset: where the machine can, otherwise a skip that says so on standard error.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

/// One of the two machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first: the primary's.
    A,
    /// The second: the secondary's.
    B,
}

/// Two namespaces; dropping removes them.
#[derive(Debug)]
pub struct Link {
    number: u8,
    tool: Tool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Nft,
    Iptables,
}

/// Whether tests of this kind run here; says on standard error when not.
///
/// # Panics
///
/// When they are required and the machine cannot.
#[must_use]
pub fn netns_wanted() -> bool {
    let wish = std::env::var("ONDUTY_TEST_NETNS").unwrap_or_default();
    if wish == "off" {
        eprintln!("SKIPPED: network namespaces are switched off by ONDUTY_TEST_NETNS=off");
        return false;
    }
    // Asked once: the tests of a program begin together, and two questions at the same time are in each other's way.
    static OBSTACLE: OnceLock<Option<String>> = OnceLock::new();
    let obstacle = OBSTACLE.get_or_init(obstacle);
    if let Some(why) = obstacle {
        assert_ne!(wish, "required", "network namespaces are required and cannot be used: {why}");
        eprintln!("SKIPPED: network namespaces cannot be used here: {why}");
    }
    obstacle.is_none()
}

fn obstacle() -> Option<String> {
    if !nix::unistd::Uid::effective().is_root() {
        return Some("not root".to_owned());
    }
    let probe = format!("odprobe{}", std::process::id());
    let made = try_run("ip", &["netns", "add", &probe]);
    if made.is_ok() {
        let _gone = try_run("ip", &["netns", "delete", &probe]);
    }
    made.err().or_else(|| Tool::find().is_none().then(|| "neither nft nor iptables works".to_owned()))
}

impl Tool {
    fn find() -> Option<Self> {
        let works = |tool: Self| {
            let (program, argument) = match tool {
                Self::Nft => ("nft", "--version"),
                Self::Iptables => ("iptables", "--version"),
            };
            try_run(program, &[argument]).is_ok().then_some(tool)
        };
        works(Self::Nft).or_else(|| works(Self::Iptables))
    }
}

impl Link {
    /// Makes both namespaces and the link, up.
    ///
    /// # Panics
    ///
    /// When the machine refuses.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let process = u8::try_from(std::process::id() % 200).unwrap_or(0);
        let number = process.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let link = Self { number, tool: Tool::find().expect("nft or iptables") };
        // What a test that was killed has left behind.
        link.remove();
        let (a, b) = (link.namespace(Side::A), link.namespace(Side::B));
        run("ip", &["netns", "add", &a]);
        run("ip", &["netns", "add", &b]);
        for namespace in [&a, &b] {
            run("ip", &["-n", namespace, "link", "set", "lo", "up"]);
        }
        link.plug(0);
        link
    }

    /// The same with a second cable beside the first.
    ///
    /// # Panics
    ///
    /// When the machine refuses.
    #[must_use]
    #[track_caller]
    pub fn with_two_cables() -> Self {
        let link = Self::new();
        link.plug(1);
        link
    }

    /// Makes a cable, with an address at each end.
    fn plug(&self, cable: u8) {
        let (a, b, card) = (self.namespace(Side::A), self.namespace(Side::B), card(cable));
        run("ip", &["link", "add", &card, "netns", &a, "type", "veth", "peer", "name", &card, "netns", &b]);
        for side in [Side::A, Side::B] {
            let namespace = self.namespace(side);
            let address = format!("{}/24", self.address_on(cable, side));
            run("ip", &["-n", &namespace, "address", "add", &address, "dev", &card]);
            run("ip", &["-n", &namespace, "link", "set", &card, "up"]);
        }
    }

    /// The namespace's name.
    #[must_use]
    pub fn namespace(&self, side: Side) -> String {
        let letter = match side {
            Side::A => 'a',
            Side::B => 'b',
        };
        format!("od{}{letter}", self.number)
    }

    /// The machine's address.
    #[must_use]
    pub fn address(&self, side: Side) -> String {
        self.address_on(0, side)
    }

    /// The machine's address on a cable.
    #[must_use]
    pub fn address_on(&self, cable: u8, side: Side) -> String {
        let host = match side {
            Side::A => 1,
            Side::B => 2,
        };
        format!("10.{}.{}.{host}", 77 + cable, self.number)
    }

    /// Pulls the cable.
    pub fn cut(&self) {
        self.cut_cable(0);
    }

    /// Plugs it in again.
    pub fn restore(&self) {
        self.restore_cable(0);
    }

    /// Pulls one of two cables.
    pub fn cut_cable(&self, cable: u8) {
        run("ip", &["-n", &self.namespace(Side::A), "link", "set", &card(cable), "down"]);
    }

    /// Plugs it in again.
    pub fn restore_cable(&self, cable: u8) {
        run("ip", &["-n", &self.namespace(Side::A), "link", "set", &card(cable), "up"]);
    }

    /// Loses everything that arrives at a side, without a word; what it sends goes on.
    pub fn drop_arriving(&self, side: Side) {
        self.rule(side, &["drop"], &["-j", "DROP"]);
    }

    /// Answers every connection and packet to a side's port with a TCP reset, as a rejecting firewall does.
    pub fn reject_arriving(&self, side: Side, port: u16) {
        let port = port.to_string();
        let nft = ["tcp", "dport", &port, "reject", "with", "tcp", "reset"];
        let iptables = ["-p", "tcp", "--dport", &port, "-j", "REJECT", "--reject-with", "tcp-reset"];
        self.rule(side, &nft, &iptables);
    }

    /// Takes every rule of a side away.
    pub fn allow(&self, side: Side) {
        match self.tool {
            Tool::Nft => self.inside(side, "nft", &["flush", "ruleset"]),
            Tool::Iptables => self.inside(side, "iptables", &["--flush", "INPUT"]),
        }
    }

    /// Does something on a side: in a thread of its own, which alone enters the namespace.
    ///
    /// # Panics
    ///
    /// When the namespace cannot be entered.
    pub fn on<T: Send + 'static>(&self, side: Side, act: impl FnOnce() -> T + Send + 'static) -> T {
        let file = File::open(format!("/run/netns/{}", self.namespace(side))).expect("open the namespace");
        let entered = thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("enter the namespace");
            act()
        });
        entered.join().expect("nothing panics inside the namespace")
    }

    fn rule(&self, side: Side, nft: &[&str], iptables: &[&str]) {
        match self.tool {
            Tool::Nft => {
                self.inside(side, "nft", &["add", "table", "inet", "test"]);
                let chain = "{ type filter hook input priority 0 ; }";
                self.inside(side, "nft", &["add", "chain", "inet", "test", "arriving", chain]);
                self.inside(side, "nft", &[&["add", "rule", "inet", "test", "arriving"], nft].concat());
            }
            Tool::Iptables => self.inside(side, "iptables", &[&["--append", "INPUT"], iptables].concat()),
        }
    }

    fn inside(&self, side: Side, program: &str, arguments: &[&str]) {
        let namespace = self.namespace(side);
        run("ip", &[&["netns", "exec", &namespace, program], arguments].concat());
    }

    fn remove(&self) {
        for side in [Side::A, Side::B] {
            // Not there is what is wanted.
            let _gone = try_run("ip", &["netns", "delete", &self.namespace(side)]);
        }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The name of the network card of a cable, at both ends.
fn card(cable: u8) -> String {
    format!("eth{cable}")
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    if let Err(why) = try_run(program, arguments) {
        panic!("{why}");
    }
}

fn try_run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let shown = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`{shown}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    /// One connection attempt from B to a port of A.
    fn connects(link: &Link, port: u16) -> Result<(), ErrorKind> {
        let address = format!("{}:{port}", link.address(Side::A)).parse().expect("an address");
        let attempt = move || TcpStream::connect_timeout(&address, Duration::from_millis(500)).map(drop);
        link.on(Side::B, attempt).map_err(|error: io::Error| error.kind())
    }

    #[test]
    fn the_link_can_be_cut_and_restored_and_a_firewall_can_drop_or_reject() {
        if !netns_wanted() {
            return;
        }
        let link = Link::new();
        // Never accepted: the kernel completes connections up to the backlog.
        let server = link.on(Side::A, || TcpListener::bind("0.0.0.0:0")).expect("listen in the namespace");
        let port = server.local_addr().expect("an address").port();
        assert_eq!(connects(&link, port), Ok(()));
        link.cut();
        assert!(connects(&link, port).is_err());
        link.restore();
        crate::until("the restored link", Duration::from_secs(10), || connects(&link, port).ok());
        link.drop_arriving(Side::A);
        assert!(matches!(connects(&link, port), Err(ErrorKind::TimedOut | ErrorKind::WouldBlock)));
        link.allow(Side::A);
        assert_eq!(connects(&link, port), Ok(()));
        link.reject_arriving(Side::A, port);
        assert_eq!(connects(&link, port), Err(ErrorKind::ConnectionRefused));
        link.allow(Side::A);
        assert_eq!(connects(&link, port), Ok(()));
    }
}

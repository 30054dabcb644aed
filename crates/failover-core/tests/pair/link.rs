//! The link between the two hosts: the secondary dials, beats and answers travel with delay, loss and doubling. Between two
//! nodes of the same mode the second one dials.

use std::time::Duration;

use failover_core::{Beat, BootTime, DialOutcome, Input, PathId, SessionId, Via};

use super::{Happening, Micros, World, ms};

/// One connection; each end is open until it learns otherwise.
#[derive(Clone, Debug)]
pub struct Connection {
    pub dialler: usize,
    pub path: usize,
    pub open: [bool; 2],
    pub sequence: [u64; 2],
    /// The newest stamp seen of the other.
    pub seen: [Option<BootTime>; 2],
    pub heard: [Micros; 2],
    pub runs: [u64; 2],
}

pub fn path_id(path: usize) -> PathId {
    PathId::try_from(u8::try_from(path).unwrap()).unwrap()
}

fn micros(span: Duration) -> Micros {
    u64::try_from(span.as_micros()).unwrap()
}

impl World {
    /// Whether anything passes in both directions.
    fn reachable(&self, path: usize) -> bool {
        !self.net.cut[0] && !self.net.cut[1] && !self.net.down[path]
    }

    fn latency(&mut self) -> Micros {
        let (low, high) = self.net.latency;
        let straggles = self.net.straggle > 0 && self.dice.within(0, 1000) < self.net.straggle;
        let plain = self.dice.within(low, high);
        if straggles { plain + self.dice.within(ms(100), ms(4000)) } else { plain }
    }

    pub fn dial_soon(&mut self, path: usize, after: Micros) {
        self.dial_generation[path] += 1;
        let generation = self.dial_generation[path];
        self.at(self.now + after, Happening::Dial(path, generation));
    }

    /// The node that dials.
    fn dialler(&self) -> usize {
        use failover_core::Mode::Secondary;
        let modes = [0, 1].map(|node: usize| self.hosts[node].settings.mode);
        usize::from(modes[0] != Secondary || modes[1] == Secondary)
    }

    pub fn dial(&mut self, path: usize, generation: u64) {
        let from = self.dialler();
        let to = 1 - from;
        let dialler = &self.hosts[from];
        let open = self.links.values().any(|link| link.open[from] && link.path == path);
        if generation != self.dial_generation[path] || dialler.machine.is_none() || open {
            return;
        }
        if dialler.frozen {
            self.dial_soon(path, ms(50));
            return;
        }
        let pause = dialler.settings.interval.min(Duration::from_secs(1));
        let deadline = micros(dialler.settings.timeout / 3);
        let answers = self.hosts[to].machine.is_some() && !self.hosts[to].frozen;
        let reachable = self.reachable(path);
        let unproved = self.net.unproved || self.net.impostor[path];
        if reachable && answers && !self.net.reject && !unproved {
            let after = (self.latency() + self.net.slow[path]) * 4;
            self.at(self.now + after, Happening::DialDone(path, generation));
            return;
        }
        let host_up = self.hosts[to].machine.is_none() || self.net.reject;
        let outcome = if unproved {
            DialOutcome::Unproved("the key does not match".to_owned())
        } else if reachable && host_up && !self.hosts[to].settings.unsafe_settings.contains(&"off".to_owned())
        {
            DialOutcome::Silent("connection refused".to_owned())
        } else {
            DialOutcome::Silent("no answer".to_owned())
        };
        let wait = if matches!(&outcome, DialOutcome::Silent(seen) if seen == "no answer") {
            deadline
        } else {
            ms(1)
        };
        let run = self.hosts[from].run;
        let told = Input::DialFinished { path: path_id(path), outcome };
        self.at(self.now + wait, Happening::Tell(from, run, Box::new(told)));
        if reachable && self.hosts[to].machine.is_none() && !self.net.reject {
            self.probe(from);
        }
        self.dial_soon(path, micros(pause).max(wait));
    }

    /// Asks at the other's port for the secret, as the dialler does when its stream ends.
    fn probe(&mut self, from: usize) {
        if let Some(epoch) = self.hosts[1 - from].tombstone {
            let run = self.hosts[from].run;
            let after = self.latency() * 2;
            self.at(self.now + after, Happening::Tell(from, run, Box::new(Input::TombstoneRead { epoch })));
        }
    }

    pub fn tombstone_stands(&mut self, node: usize) {
        let from = self.dialler();
        if node != from && (0..self.paths).any(|path| self.reachable(path)) && !self.net.reject {
            self.probe(from);
        }
    }

    pub fn dial_done(&mut self, path: usize, generation: u64) {
        let up = |host: &super::Host| host.machine.is_some() && !host.frozen;
        if generation != self.dial_generation[path] || !self.hosts.iter().all(up) {
            self.dial_soon(path, ms(100));
            return;
        }
        self.sessions += 1;
        let id = self.sessions;
        let runs = [self.hosts[0].run, self.hosts[1].run];
        let link = Connection {
            dialler: self.dialler(),
            path,
            open: [true; 2],
            sequence: [0; 2],
            seen: [None; 2],
            heard: [self.now; 2],
            runs,
        };
        self.links.insert(id, link);
        for node in [0, 1] {
            let other = &self.hosts[1 - node].settings;
            let input = Input::SessionProved {
                session: SessionId(id),
                via: Via {
                    path: path_id(path),
                    paths: self.paths,
                    remote: format!("10.0.{}.{}", path + 1, 2 - node),
                    dialled: node == self.dialler(),
                },
                peer: other.identity.clone(),
                role: other.role,
                mode: other.mode,
            };
            self.tell(node, input);
        }
        self.at(self.now, Happening::Heartbeat(id));
        self.at(self.now + ms(100), Happening::Watch(id));
    }

    /// The secondary's heartbeat, every interval.
    pub fn heartbeat(&mut self, id: u64) {
        let Some(link) = self.links.get(&id).filter(|link| link.open[link.dialler]) else { return };
        let dialler = link.dialler;
        if self.hosts[dialler].frozen {
            // What fell due while the process stood still is sent as soon as it goes on, never skipped: the primary
            // learns of an echo one interval late already.
            self.at(self.now + ms(5), Happening::Heartbeat(id));
            return;
        }
        self.send(dialler, id);
        let interval = micros(self.hosts[dialler].settings.interval);
        self.at(self.now + interval, Happening::Heartbeat(id));
    }

    pub fn announce(&mut self, node: usize) {
        let open: Vec<u64> =
            self.links.iter().filter(|(_, link)| link.open[node]).map(|(id, _)| *id).collect();
        for id in open {
            self.send(node, id);
        }
    }

    fn send(&mut self, from: usize, id: u64) {
        let host = &self.hosts[from];
        let Some(machine) = host.machine.as_ref().filter(|_| !host.frozen) else { return };
        let stamp = host.clock(self.now).boot;
        let report = machine.report();
        let Some(link) = self.links.get_mut(&id) else { return };
        let path = link.path;
        link.sequence[from] += 1;
        let beat = Beat { sequence: link.sequence[from], stamp, echo: link.seen[from], report };
        let copies = 1 + u64::from(self.net.double > 0 && self.dice.within(0, 1000) < self.net.double);
        for _ in 0..copies {
            let lost = self.net.cut[from]
                || self.net.down[path]
                || self.net.reject
                || (self.net.loss > 0 && self.dice.within(0, 1000) < self.net.loss);
            let after = self.latency() + self.net.slow[path];
            if !lost {
                let deliver = Happening::Deliver { to: 1 - from, session: id, beat: Box::new(beat.clone()) };
                self.at(self.now + after, deliver);
            }
        }
    }

    pub fn deliver(&mut self, to: usize, id: u64, beat: Beat) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        let path = link.path;
        if !link.open[to] {
            // The host is up, and its system knows nothing of this connection: it resets it.
            if self.hosts[to].machine.is_some() && self.leads_out(to, path) {
                let after = self.latency();
                self.at(now + after, Happening::Broken { at: 1 - to, session: id, why: "reset by the peer" });
            }
            return;
        }
        if self.net.cut[1 - to] || self.net.down[path] {
            return; // Still under way when the line was cut.
        }
        if link.runs[to] != self.hosts[to].run {
            return;
        }
        let frozen = self.hosts[to].frozen;
        if !frozen {
            link.seen[to] = link.seen[to].max(Some(beat.stamp));
            link.heard[to] = now;
        }
        self.tell(to, Input::BeatArrived { session: SessionId(id), beat: Box::new(beat) });
        let answers = self.links.get(&id).is_some_and(|link| link.dialler != to);
        if answers && !frozen {
            self.send(to, id); // The primary acknowledges each.
        }
    }

    /// Both ends give a connection up on which nothing comes.
    pub fn watch_session(&mut self, id: u64) {
        let Some(link) = self.links.get(&id) else { return };
        let patience = micros(self.hosts[link.dialler].settings.timeout);
        let stale = [0, 1].map(|node| {
            link.open[node] && !self.hosts[node].frozen && self.now - link.heard[node] > patience
        });
        for node in [0, 1] {
            if stale[node] {
                self.broken(node, id, "nothing came");
            }
        }
        if self.links.contains_key(&id) {
            self.at(self.now + ms(100), Happening::Watch(id));
        }
    }

    /// One end learns that the connection is over.
    pub fn broken(&mut self, at: usize, id: u64, why: &'static str) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.open[at]) else { return };
        link.open[at] = false;
        let dialler = link.dialler;
        let same = link.runs[at] == self.hosts[at].run;
        let path = link.path;
        if !link.open[1 - at] {
            self.links.remove(&id);
        }
        if same {
            self.tell(at, Input::SessionEnded { session: SessionId(id), cause: why.to_owned() });
        }
        if at == dialler {
            self.dial_soon(path, 100);
        }
        // The other end sees the close, if the line lets it.
        if self.leads_out(at, path) {
            let after = self.latency();
            self.at(
                self.now + after,
                Happening::Broken { at: 1 - at, session: id, why: "the peer closed it" },
            );
        }
    }

    pub fn close(&mut self, node: usize, id: u64) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.open[node]) else { return };
        link.open[node] = false;
        let path = link.path;
        if node == link.dialler {
            self.dial_soon(path, ms(100));
        }
    }

    /// The process behind an end is gone: its host resets the connections, unless it is gone itself.
    pub fn reset_links(&mut self, node: usize, host_up: bool) {
        let ids: Vec<u64> = self.links.keys().copied().collect();
        for id in ids {
            let Some(link) = self.links.get_mut(&id) else { continue };
            link.open[node] = false;
            let path = link.path;
            if host_up && self.leads_out(node, path) {
                let after = self.latency();
                self.at(
                    self.now + after,
                    Happening::Broken { at: 1 - node, session: id, why: "reset by the peer" },
                );
            }
        }
    }

    /// Whether what a node sends over a path leaves.
    fn leads_out(&self, node: usize, path: usize) -> bool {
        !self.net.cut[node] && !self.net.down[path] && !self.net.reject
    }
}

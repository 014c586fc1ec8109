//! Nodes and router are cut off from the controller, not from each other, and permission is withdrawn meanwhile: who hears of it ends
//! what it can, and when the network is whole again everything is over at once.
//!
//! ```text
//! controller ── control network ── router, host, dialers
//!                                  router, host, dialers ── data network
//! ```

use crate::load::{Doomed, SOON, Survivors, all_break, all_break_within};
use hesper_integration::{Lan, Netns, Oracle, Place, Process, Stack, StackOptions, wait_for, wait_until};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

/// A machine on both networks.
struct Machine {
    netns: Netns,
    place: Place,
    /// On the control network.
    control: Ipv4Addr,
}

impl Machine {
    fn new(control: &Lan, data: &Lan, name: &str) -> Self {
        let (netns, address) = data.host(name);
        let control = control.join(&netns);
        let place = Place::namespace(&netns, address);
        Self { netns, place, control }
    }
}

struct Mesh {
    stack: Stack,
    oracle: Oracle,
    host: Process,
    client: Process,
    other: Process,
    router_at: Machine,
    host_at: Machine,
    client_at: Machine,
    control: Lan,
    _data: Lan,
    _controller_at: Netns,
}

impl Mesh {
    fn start() -> Self {
        let (control, data) = (Lan::new(), Lan::new());
        let (controller_at, address) = control.host("ctrl");
        let [router_at, host_at, client_at] =
            ["router", "host", "client"].map(|name| Machine::new(&control, &data, name));
        let options = StackOptions::default().at(Place::namespace(&controller_at, address));
        let options = options.routers_at([router_at.place.clone()]);
        let stack = options.start();
        let oracle = Oracle::start_in(&host_at.netns);
        let [host, client, other] = ["host", "client", "other"].map(|name| stack.enroll(name, &[]));
        stack.publish("oracle", oracle.address(), "@host");
        stack.allow("Dial", "oracle", "@client");
        let roles = ["--service-roles", "@oracle", "--identity-roles", "@other"];
        stack.cli([&["create", "service-policy", "other", "Dial"], &roles[..]].concat()).ok();
        let host = stack.tunnel_at(&host_at.place, "host", &["host", "-i", &host]);
        wait_until("it hosts", Stack::PATIENCE, || host.said("service bound"));
        let [client, other] = [("client", client), ("other", other)]
            .map(|(name, file)| stack.tunnel_at(&client_at.place, name, &["proxy", "-i", &file, "oracle:0"]));
        let _data = data;
        let _controller_at = controller_at;
        Self {
            stack,
            oracle,
            host,
            client,
            other,
            router_at,
            host_at,
            client_at,
            control,
            _data,
            _controller_at,
        }
    }

    fn via(&self) -> SocketAddr {
        self.client.told("oracle")
    }

    /// Streams of the client, as soon as it may.
    fn streams(&self) -> Vec<Doomed> {
        let place = &self.client_at.place;
        let idle = wait_for("the client may dial", Stack::PATIENCE, || {
            let stream = Doomed::idle(&self.oracle, place, self.via());
            wait_until("an answer", Stack::PATIENCE, || stream.moved() > 0 || !stream.goes_on());
            if stream.goes_on() { Ok(stream) } else { Err("refused".to_owned()) }
        });
        let mut streams = vec![idle];
        streams.extend(Doomed::busy(&self.oracle, place, self.via()));
        streams.iter().for_each(Doomed::is_open);
        wait_until("the router has both pairs", Stack::PATIENCE, || self.pairs() == 2.0);
        streams
    }

    fn pairs(&self) -> f64 {
        self.stack.router_metric(0, "hesper_router_open_pairs")
    }

    fn cut(&self, machines: &[&Machine]) {
        machines.iter().for_each(|machine| self.control.cut(machine.control));
    }

    fn heal(&self, machines: &[&Machine]) {
        machines.iter().for_each(|machine| self.control.heal(machine.control));
    }

    fn revoke(&self) {
        self.stack.cli(["delete", "service-policy", "oracle.dial"]).ok();
    }

    fn allow(&self) {
        self.stack.allow("Dial", "oracle", "@client");
    }

    /// How often each of them has lost the controller.
    fn losses(&self) -> [usize; 4] {
        let router = self.stack.router_of(0);
        [&self.host, &self.client, &self.other, router].map(|process| {
            let lost = ["no watch at the controller", "no connection to the controller"];
            let lines = process.lines();
            lines.iter().filter(|line| lost.iter().any(|words| line.contains(words))).count()
        })
    }

    #[track_caller]
    fn closes(&self, what: &str, since: Instant) {
        wait_for(&format!("{what}: the router has closed the pair"), SOON, || {
            let pairs = self.pairs();
            if pairs == 1.0 { Ok(()) } else { Err(format!("{pairs} pairs")) }
        });
        println!("{what}: pair closed after {:.2?}", since.elapsed());
    }
}

#[test]
fn whoever_hears_of_a_revocation_ends_the_streams_for_those_who_do_not() {
    let mesh = Mesh::start();
    let mut survivors = Survivors::none();
    survivors.add("of another dialer", &mesh.oracle, &mesh.client_at.place, mesh.other.told("oracle"));
    for (what, away) in [("dialers away", &mesh.client_at), ("host away", &mesh.host_at)] {
        let streams = mesh.streams();
        mesh.cut(&[away]);
        let begun = Instant::now();
        mesh.revoke();
        mesh.closes(what, begun);
        // The router may have closed the pair before the other side's word came through: then each finds out by itself.
        let ended = all_break_within(what, begun, 3 * SOON, &streams);
        println!("{what}: streams ended after {ended:.2?}");
        mesh.heal(&[away]);
        mesh.allow();
        survivors.go_on();
    }
    let streams = mesh.streams();
    mesh.cut(&[&mesh.router_at]);
    let begun = Instant::now();
    mesh.revoke();
    println!("router away: streams ended after {:.2?}", all_break("router away", begun, &streams));
    assert_eq!(mesh.pairs(), 2.0, "it cannot know");
    mesh.heal(&[&mesh.router_at]);
    mesh.closes("router back", Instant::now());
    survivors.go_on();
    survivors.finish();
}

#[test]
fn what_was_revoked_behind_a_partition_ends_when_it_heals() {
    let mut mesh = Mesh::start();
    let mut survivors = Survivors::none();
    survivors.add("of another dialer", &mesh.oracle, &mesh.client_at.place, mesh.other.told("oracle"));
    for what in ["all away", "all away, and the controller has forgotten"] {
        let streams = mesh.streams();
        let losses = mesh.losses();
        mesh.cut(&[&mesh.router_at, &mesh.host_at, &mesh.client_at]);
        wait_until("all have noticed", Stack::PATIENCE, || {
            mesh.losses().iter().zip(losses).all(|(now, before)| *now > before)
        });
        if what != "all away" {
            mesh.stack.kill_controller();
            mesh.stack.start_controller();
        }
        mesh.revoke();
        assert!(streams.iter().all(Doomed::goes_on), "nobody can know");
        survivors.go_on();
        mesh.heal(&[&mesh.router_at, &mesh.host_at, &mesh.client_at]);
        let healed = Instant::now();
        let ended = all_break_within(what, healed, 2 * SOON, &streams);
        println!("{what}: streams ended {ended:.2?} after healing");
        mesh.closes(what, healed);
        survivors.go_on();
        mesh.allow();
    }
    survivors.finish();
}

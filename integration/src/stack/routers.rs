//! The routers of a stack: killed, started again, drained, each by its number from 0.

use super::{Place, Stack, ready};
use crate::{Link, Process, free_port, http};
use std::{net::SocketAddr, process::ExitStatus};

/// A router's place and port, whether it runs or not.
pub(super) struct Seat {
    name: String,
    pub(super) place: Place,
    port: u16,
    pub(super) link: Option<Link>,
    process: Option<Process>,
    /// Where it tells its metrics.
    metrics: String,
}

impl Seat {
    pub(super) fn new(name: String, place: Place) -> Self {
        Self { name, place, port: free_port(), link: None, process: None, metrics: String::new() }
    }

    /// Its own UDP address.
    pub(super) fn listens(&self) -> SocketAddr {
        SocketAddr::from((self.place.address(), self.port))
    }
}

impl Stack {
    /// Starts the router, also again after [`kill_router`](Self::kill_router).
    ///
    /// # Panics
    /// When it does not start, or runs inside quickstart.
    #[track_caller]
    pub fn start_router(&mut self) {
        self.start_router_of(0);
    }

    /// Starts this router, also again after it was killed or drained: same home, same port.
    ///
    /// # Panics
    /// When it does not start, or runs inside quickstart.
    #[track_caller]
    pub fn start_router_of(&mut self, index: usize) {
        assert!(self.both.is_none(), "made by Stack::start: the router is not a process of its own");
        let seat = &self.routers[index];
        let (home, at) = (self.path(&seat.name), seat.listens().to_string());
        let advertised = seat.link.as_ref().map_or_else(|| at.clone(), |link| link.address().to_string());
        let arguments = ["router", "run", "--home", &home, "--listen", &at, "--advertise", &advertised];
        let arguments = [&arguments[..], &["--metrics", "127.0.0.1:0"]].concat();
        let more = self.router_arguments.iter().map(String::as_str);
        let mut process = self.node_at(&seat.place, &seat.name, arguments.into_iter().chain(more));
        ready(&mut process, "router");
        let metrics = process.wait_for_line("its metrics are served", Self::PATIENCE, |line| {
            Some(line.split_once("metrics at ")?.1.trim().to_owned())
        });
        let seat = &mut self.routers[index];
        (seat.metrics, seat.process) = (metrics, Some(process));
    }

    /// `kill -9` of the router, when it is a process of its own.
    pub fn kill_router(&mut self) {
        self.kill_router_of(0);
    }

    /// `kill -9` of this router.
    pub fn kill_router_of(&mut self, index: usize) {
        if let Some(seat) = self.routers.get_mut(index) {
            seat.process = None;
        }
    }

    /// SIGTERM to the router, when it is a process of its own; how it ended.
    ///
    /// # Panics
    /// When it is no process of its own, or does not end.
    #[track_caller]
    pub fn terminate_router(&mut self) -> ExitStatus {
        self.terminate_router_of(0)
    }

    /// SIGTERM to this router, which drains it; how it ended.
    ///
    /// # Panics
    /// When it is no process of its own, does not run, or does not end.
    #[track_caller]
    pub fn terminate_router_of(&mut self, index: usize) -> ExitStatus {
        let seat = self.routers.get_mut(index).expect("a router of its own");
        seat.process.take().expect("a running router").terminate(Self::PATIENCE)
    }

    /// The process that the router is or runs in.
    ///
    /// # Panics
    /// When it was killed.
    pub fn router(&self) -> &Process {
        self.both.as_ref().unwrap_or_else(|| self.router_of(0))
    }

    /// The process of this router.
    ///
    /// # Panics
    /// When it was killed.
    pub fn router_of(&self, index: usize) -> &Process {
        self.routers.get(index).and_then(|seat| seat.process.as_ref()).expect("a running router")
    }

    /// The value of one of this router's metrics, by its name and labels as the page has them: `hesper_router_links`.
    ///
    /// # Panics
    /// When the router does not run, or there is no such metric.
    #[track_caller]
    pub fn router_metric(&self, index: usize, metric: &str) -> f64 {
        let seat = &self.routers[index];
        let page = http::curl_in(seat.place.netns(), &[&seat.metrics]).expect("the router's metrics");
        let value = page.body.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no metric {metric}:\n{}", page.body))
    }

    /// Where this router serves its metrics, on its loopback.
    ///
    /// # Panics
    /// When there is none of this number.
    pub fn router_metrics_url(&self, index: usize) -> &str {
        &self.routers[index].metrics
    }

    /// How many routers are processes of their own, running or not.
    pub fn router_count(&self) -> usize {
        self.routers.len()
    }

    /// The name of this router, as the controller knows it.
    ///
    /// # Panics
    /// When there is none of this number.
    pub fn router_name(&self, index: usize) -> &str {
        &self.routers[index].name
    }

    /// `ADDRESS:PORT` of the router (UDP): its own, also when it is behind a link.
    pub fn router_address(&self) -> String {
        match self.routers.first() {
            Some(seat) => seat.listens().to_string(),
            None => format!("{}:{}", self.place.address, self.router_port),
        }
    }

    /// Its own UDP address.
    ///
    /// # Panics
    /// When there is none of this number.
    pub fn router_address_of(&self, index: usize) -> SocketAddr {
        self.routers[index].listens()
    }

    /// The link before the first router.
    ///
    /// # Panics
    /// When the stack was not made with [`linked`](super::StackOptions::linked).
    pub fn link(&self) -> &Link {
        self.link_of(0)
    }

    /// The link before this router.
    ///
    /// # Panics
    /// When the stack was not made with [`linked`](super::StackOptions::linked).
    pub fn link_of(&self, index: usize) -> &Link {
        self.routers.get(index).and_then(|seat| seat.link.as_ref()).expect("a stack with links")
    }
}

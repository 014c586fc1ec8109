//! A stack made to measure: how many routers, where, behind what, under which settings.

use super::{Place, Stack, USER, routers::Seat};
use crate::{Link, free_port, output::run};
use serde_json::{Map, Value};
use std::fs;

/// A controller and its routers as processes of their own. The policies are those of quickstart: everybody may use every router for
/// everything.
///
/// ```no_run
/// use hesper_integration::StackOptions;
/// // Two routers in the host's network, each behind a link whose faults the test chooses.
/// let mut stack = StackOptions::default().routers(2).linked().start();
/// stack.link_of(0).rebind();
/// stack.kill_router_of(1); // -9
/// stack.start_router_of(1); // the same home, the same port
/// assert_eq!(stack.terminate_router_of(0).code(), Some(0)); // drained
/// ```
///
/// The routers are called `router`, `router2`, `router3`, …, and so are their homes in the stack's directory.
#[derive(Clone, Debug)]
pub struct StackOptions {
    place: Place,
    routers: Vec<Option<Place>>,
    linked: bool,
    seed: u64,
    settings: Map<String, Value>,
    open: bool,
    router_arguments: Vec<String>,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            place: Place::host(),
            routers: vec![None],
            linked: false,
            seed: 1,
            settings: Map::new(),
            open: true,
            router_arguments: Vec::new(),
        }
    }
}

impl StackOptions {
    /// The controller there, and the routers too unless they have places of their own.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// So many routers next to the controller.
    #[must_use]
    pub fn routers(self, count: usize) -> Self {
        Self { routers: vec![None; count], ..self }
    }

    /// One router at each of these places.
    #[must_use]
    pub fn routers_at(self, places: impl IntoIterator<Item = Place>) -> Self {
        Self { routers: places.into_iter().map(Some).collect(), ..self }
    }

    /// Each router behind a [`Link`], which nodes and other routers go through; perfect until told otherwise.
    #[must_use]
    pub fn linked(self) -> Self {
        Self { linked: true, ..self }
    }

    /// What the links draw their faults by.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// A setting in `controller.json`, for example `("grantValidity", "10s")`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(name.to_owned(), value.into());
        self
    }

    /// No edge-router and service-edge-router policies: the test makes its own.
    #[must_use]
    pub fn without_router_policies(self) -> Self {
        Self { open: false, ..self }
    }

    /// Every router is run with these arguments too, for example `["--outage-grace", "20"]`.
    #[must_use]
    pub fn router_arguments(self, arguments: &[&str]) -> Self {
        Self { router_arguments: arguments.iter().map(|&a| a.to_owned()).collect(), ..self }
    }

    /// Makes and starts it all, and logs the administrator in.
    ///
    /// # Panics
    /// When something does not start.
    #[track_caller]
    pub fn start(self) -> Stack {
        let mut stack = Stack::new(self.place.clone(), free_port());
        stack.router_arguments.clone_from(&self.router_arguments);
        self.init_controller(&stack);
        stack.start_controller();
        stack.login();
        if self.open {
            let policies = [("edge-router-policy", "identity"), ("service-edge-router-policy", "service")];
            for (kind, whose) in policies {
                let all = ["--edge-router-roles", "#all", &format!("--{whose}-roles"), "#all"];
                stack.cli([&["create", kind, "all"], &all[..]].concat()).ok();
            }
        }
        for (index, place) in self.routers.into_iter().enumerate() {
            let name = if index == 0 { "router".to_owned() } else { format!("router{}", index + 1) };
            let place = place.unwrap_or_else(|| self.place.clone());
            let (token, home) = (stack.path(&format!("{name}.jwt")), stack.path(&name));
            stack.cli(["create", "edge-router", &name, "-o", &token]).ok();
            stack.cli(["router", "enroll", &token, "--home", &home]).ok();
            let mut seat = Seat::new(name, place);
            if self.linked {
                seat.link = Some(Link::start(&seat.place, seat.listens(), self.seed + index as u64));
            }
            stack.routers.push(seat);
            stack.start_router_of(index);
        }
        stack
    }

    #[track_caller]
    fn init_controller(&self, stack: &Stack) {
        let (home, port) = (stack.path("controller"), stack.controller_port.to_string());
        let address = stack.place.address().to_string();
        let place = ["--ctrl-address", &address, "--ctrl-port", &port];
        let arguments = [&["controller", "init", "--home", &home, "-u", USER], &place[..]].concat();
        let mut init = stack.hesper(&stack.place, arguments);
        init.env("HESPER_PASSWORD", Stack::PASSWORD);
        run(init, "", Stack::COMMAND).ok();
        if !self.settings.is_empty() {
            let path = stack.path("controller/controller.json");
            let text = fs::read_to_string(&path).expect("controller.json");
            let mut file: Value = serde_json::from_str(&text).expect("JSON");
            file.as_object_mut().expect("an object").extend(self.settings.clone());
            fs::write(path, file.to_string()).expect("controller.json");
        }
    }
}

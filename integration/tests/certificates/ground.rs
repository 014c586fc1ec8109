//! Four processes with certificates that live as long as a test wants them to.

use crate::load::start_echo;
use hesper_integration::{Output, Process, Stack, wait_for};
use serde_json::{Map, Value};
use std::fs;

/// The service under load.
pub(crate) const SERVICE: &str = "target";

/// Controller, router, host and dialer.
pub(crate) struct Mesh {
    pub(crate) stack: Stack,
    pub(crate) host: Process,
    pub(crate) dialer: Process,
}

impl Mesh {
    /// With these fields in `controller.json`.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        let mut stack = Stack::separate();
        if !settings.is_empty() {
            reconfigure(&mut stack, settings);
        }
        let port = start_echo();
        stack.publish(SERVICE, ([127, 0, 0, 1], port).into(), "#hosts");
        stack.allow("Dial", SERVICE, "#dialers");
        let (host, dialer) = (stack.enroll("host", &["hosts"]), stack.enroll("dialer", &["dialers"]));
        let host = stack.tunnel("host", &["host", "-i", &host]);
        let dialer = stack.tunnel("dialer", &["run", "-i", &dialer, "--proxy", "127.0.0.1:0"]);
        Self { stack, host, dialer }
    }

    /// Where its streams are opened.
    pub(crate) fn proxy(&self) -> String {
        self.dialer.told("proxy").to_string()
    }

    /// `controller ca rotate STEP`.
    #[track_caller]
    pub(crate) fn rotate(&self, step: &[&str]) -> Output {
        self.stack.cli([&["controller", "ca", "rotate"], step].concat())
    }

    /// The same, as often as it takes until nobody is in its way.
    #[track_caller]
    pub(crate) fn rotate_when_ready(&self, step: &str) {
        wait_for(&format!("the CA rotation takes the step {step}"), Stack::PATIENCE, || {
            let output = self.rotate(&[step]);
            if output.code == 0 { Ok(()) } else { Err(output.stderr) }
        });
    }

    /// The status of the rotation.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.rotate(&["status", "-j"]).ok().json()["data"].clone()
    }

    /// The CA that issues.
    #[track_caller]
    pub(crate) fn issuing(&self) -> String {
        let status = self.status();
        let cas = status["cas"].as_array().expect("CAs");
        let issuing = cas.iter().find(|ca| ca["issues"] == true).expect("one issues");
        issuing["sha256"].as_str().expect("a digest").to_owned()
    }

    #[track_caller]
    pub(crate) fn expect_phase(&self, phase: &str) {
        let status = self.status();
        assert_eq!(status["phase"], phase, "{status:#}");
    }

    /// `kill -9` of the controller, and a new start.
    #[track_caller]
    pub(crate) fn controller_crashes(&mut self) {
        self.stack.kill_controller();
        self.stack.start_controller();
    }

    /// Certificates that the filter selects.
    #[track_caller]
    pub(crate) fn certificates(&self, filter: &str) -> Vec<Value> {
        let filter = format!("{filter} limit none");
        let listed = self.stack.cli(["edge", "list", "certs", &filter, "-j"]).ok().json();
        listed["data"].as_array().expect("a list").clone()
    }
}

/// Sets fields of `controller.json`, and gives the router a certificate that follows them.
fn reconfigure(stack: &mut Stack, settings: &[(&str, &str)]) {
    stack.kill_router();
    stack.kill_controller();
    let path = stack.path("controller/controller.json");
    let mut json: Map<String, Value> =
        serde_json::from_str(&fs::read_to_string(&path).expect("settings")).expect("JSON");
    json.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
    fs::write(&path, Value::Object(json).to_string()).expect("written");
    stack.start_controller();
    let (token, home) = (stack.path("router-again.jwt"), stack.path("router"));
    stack.cli(["create", "enrollment", "erott", "router", "-o", &token]).ok();
    fs::remove_dir_all(&home).expect("removed");
    stack.cli(["router", "enroll", &token, "--home", &home]).ok();
    stack.start_router();
}

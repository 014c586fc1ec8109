//! HTTP by curl: an independent client that also runs inside a namespace.

use crate::{
    binaries,
    netns::{self, Netns},
    output::run,
};
use std::{fs, process::Command, time::Duration};

/// The whole transfer; long, because many tests share few cores.
const WITHIN: u64 = 60;

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Status line and header lines of the last answer (after redirects and CONNECT).
    pub head: String,
    /// The body as text.
    pub body: String,
}

impl Response {
    /// The value of a header, of any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(found, value)| found.trim().eq_ignore_ascii_case(name).then(|| value.trim()))
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.body))
    }
}

/// GET from the host's network.
///
/// # Errors
/// curl's message: refused, no route, timeout, bad certificate.
pub fn get(url: &str) -> Result<Response, String> {
    curl(None, &[url])
}

/// GET from inside a namespace.
///
/// # Errors
/// As [`get`].
pub fn get_in(netns: Option<&Netns>, url: &str) -> Result<Response, String> {
    curl(netns, &[url])
}

/// curl with any arguments, for example `["-x", proxy, "-H", "accept: text/plain", url]`. No proxy from the environment.
///
/// # Errors
/// As [`get`].
#[track_caller]
pub fn curl(netns: Option<&Netns>, arguments: &[&str]) -> Result<Response, String> {
    curl_in(netns.map(Netns::name), arguments)
}

/// [`curl`] in the namespace of this name.
#[track_caller]
pub(crate) fn curl_in(netns: Option<&str>, arguments: &[&str]) -> Result<Response, String> {
    let scratch = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (head, body) = (scratch.path().join("head"), scratch.path().join("body"));
    let program = binaries::installed("curl", "curl");
    let mut command = netns.map_or_else(|| Command::new(&program), |name| netns::command_in(name, &program));
    for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(variable);
    }
    command.args([
        "-q",
        "-sS",
        "--suppress-connect-headers",
        "-w",
        "%{http_code}",
        "--max-time",
        &WITHIN.to_string(),
    ]);
    command.arg("-D").arg(&head).arg("-o").arg(&body).args(arguments);
    let done = run(command, "", Duration::from_secs(2 * WITHIN));
    if done.code != 0 {
        return Err(done.stderr.trim().to_owned());
    }
    let text =
        |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let head = text(&head);
    let last = head.rfind("HTTP/").map(|start| head[start..].to_owned()).unwrap_or_default();
    Ok(Response { status: done.stdout.trim().parse().unwrap_or_default(), head: last, body: text(&body) })
}

/// The sum of a metric's samples whose labels contain `labels`, on a page of OpenMetrics.
pub fn sum(page: &str, name: &str, labels: &str) -> f64 {
    let samples = page.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, rest) = series.split_once('{').unwrap_or((series, ""));
        (found == name && rest.contains(labels)).then(|| value.parse::<f64>().ok()).flatten()
    });
    samples.sum()
}

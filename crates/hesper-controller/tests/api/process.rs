//! The controller in a process of its own: killed without warning, and out of file descriptors.

use crate::support::{Harness, code};
use hesper_controller::{Controller, StartOptions};
use hesper_pki::key;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::net::TcpStream;

/// Tells [`controller_process`] what to run.
const HOME: &str = "HESPER_TEST_HOME";

/// No test: what the tests below run as another process.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the tests of this module"]
async fn controller_process() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let options = StartOptions::new("127.0.0.1:0".parse().expect("address"));
    let running = Controller::start(&PathBuf::from(home), options).await.expect("start");
    println!("\nserving {}", running.url());
    std::future::pending::<()>().await;
}

/// Killed when dropped.
struct Process(Child);

impl Process {
    /// Starts the controller with at most so many open files; its URL.
    fn start(home: &Path, files: u32) -> (Self, String) {
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().expect("this program"))
            .args(["--exact", "process::controller_process", "--ignored", "--nocapture"])
            .env(HOME, home)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let url = lines.map_while(Result::ok).find_map(|l| l.strip_prefix("serving ").map(str::to_owned));
        (Self(child), url.expect("the controller says where it serves"))
    }

    fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("reaped");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_gives_one_certificate_though_the_controller_is_killed_meanwhile() {
    let mut h = Harness::prepare().await;
    for delay in [0, 4, 12, 30] {
        let (process, url) = Process::start(&h.home(), 1024);
        h.connect(&url).await;
        let made = h.create("identities", json!({ "name": format!("node{delay}") })).await;
        let jwt = made["enrollment"]["jwt"].as_str().expect("jwt").to_owned();
        let keys: Vec<_> = (0..16).map(|_| key::generate().expect("key")).collect();
        let before =
            async { futures::future::join_all(keys.iter().map(|key| h.try_redeem(&jwt, key))).await };
        let killer = async {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            process.kill();
        };
        let (before, ()) = tokio::join!(before, killer);

        let (_process, url) = Process::start(&h.home(), 1024);
        h.connect(&url).await;
        let mut winners = BTreeSet::new();
        for (i, key) in keys.iter().enumerate() {
            let (status, answer) = h.redeem(&jwt, key).await;
            match status {
                StatusCode::OK => drop(winners.insert((i, answer["data"]["cert"].to_string()))),
                _ => assert_eq!(code(&answer), "ENROLLMENT_ALREADY_REDEEMED", "{answer}"),
            }
        }
        assert_eq!(winners.len(), 1, "one key, one certificate (killed after {delay} ms)");
        for (i, answer) in before.into_iter().enumerate() {
            if let Some((StatusCode::OK, answer)) = answer {
                let promised = (i, answer["data"]["cert"].to_string());
                assert!(
                    winners.contains(&promised),
                    "an answer that was given holds (killed after {delay} ms)"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_file_descriptors_is_survived() {
    let mut h = Harness::prepare().await;
    let (_process, url) = Process::start(&h.home(), 64);
    h.connect(&url).await;
    let address = url.strip_prefix("https://").expect("a URL").to_owned();
    let mut held = Vec::new();
    for _ in 0..120 {
        held.push(TcpStream::connect(&address).await.expect("the kernel queues it"));
    }
    // Over the connection that the login left open.
    let refused = async || {
        let answer = h.client.get(format!("{url}/metrics")).send().await.expect("answer");
        answer.text().await.expect("text").contains("controller_connections_refused_total{reason=\"accept\"}")
    };
    let ran_out = async {
        while !refused().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ran_out).await.expect("it runs out of file descriptors");
    drop(held);
    // A fresh connection now.
    h.connect(&url).await;
    let shown: Value = h.get("/summary").await;
    assert_eq!(shown["identities"], 1);
}

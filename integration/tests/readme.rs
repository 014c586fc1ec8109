//! The stories of README.md, as a reader would type them.

use hesper_integration::{Netns, NodeExporter, binaries, run};
use std::{env, fs, path::Path, time::Duration};

/// All of it; the waits in it are until something has come true.
const WITHIN: Duration = Duration::from_secs(180);

/// What stands in the ```` ```sh ```` blocks, in order.
fn shell_blocks(markdown: &str) -> Vec<String> {
    let blocks = markdown.split("\n```sh\n").skip(1);
    blocks.map(|rest| rest.split("\n```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_readme_is_true() {
    let readme = fs::read_to_string(binaries::repository().join("README.md")).expect("README.md");
    let blocks = shell_blocks(&readme);
    assert_eq!(blocks.len(), 6, "a controller, and five stories");

    // A machine of its own, as far as the network goes: the README's ports are free and nothing else is there.
    let netns = Netns::new("readme");
    let _exporter = NodeExporter::listen(Some(&netns), 9100);
    let directory = tempfile::tempdir().expect("temporary directory");

    // In a process namespace of its own too: what the README leaves running ends with the shell.
    let mut command = netns.command(binaries::installed("unshare", "util-linux"));
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-euo", "pipefail", "-c"]);
    command.arg(blocks.join("\n")).current_dir(&directory);
    let programs = binaries::hesper().parent().map(Path::to_owned).unwrap_or_default();
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([programs].into_iter().chain(env::split_paths(&path))).expect("PATH");
    command.env_clear().env("PATH", path).env("HOME", directory.path());

    let done = run(command, "", WITHIN);
    let logs = ["quickstart.log", "host.log", "run.log", "centre.log", "edge.log"].map(|name| {
        let text = fs::read_to_string(directory.path().join(name)).unwrap_or_default();
        format!("--- {name}:\n{text}")
    });
    assert_eq!(done.code, 0, "{}\n{}\n{}", done.stdout, done.stderr, logs.join("\n"));
    let metric = done.stdout.lines().any(|line| line.starts_with("node_uname_info{"));
    assert!(metric, "nothing was scraped: {}", done.stdout);
    let stamped = done.stdout.lines().any(|line| line.ends_with(r#""stringValue":"edge-1""#));
    assert!(stamped, "the span does not name its gateway: {}", done.stdout);
    for told in ["terminator", "may dial; hosted by web-1", "allowed by Dial service-policy"] {
        assert!(done.stdout.contains(told), "{told} is not told: {}", done.stdout);
    }
    assert!(logs.iter().all(|log| !log.contains(" ERROR ")), "{}", logs.join("\n"));
}

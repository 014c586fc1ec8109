//! The files of a configuration: read, loaded, explained.

use hesper_collector_config::{Config, Fault, Remark, load};
use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

/// Largest file, bytes: far above any configuration.
const MAX_FILE: u64 = 16 << 20;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is no configuration.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Faults(Vec<Fault>),
}

/// Reads the files and loads them as one configuration, with the variables of this process's environment.
///
/// # Errors
/// A file that cannot be read, or every fault in them.
pub fn read(paths: &[PathBuf]) -> Result<(Config, Vec<Remark>), ConfigError> {
    let texts = paths.iter().map(|path| text(path)).collect::<Result<Vec<_>, _>>()?;
    let named: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    load(&named, &|name| std::env::var(name).ok()).map_err(ConfigError::Faults)
}

fn text(path: &Path) -> Result<(String, String), ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_FILE {
        let reason = format!("it has {length} bytes; no configuration has more than {MAX_FILE}");
        return Err(unreadable(io::Error::other(reason)));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Ok((path.display().to_string(), text))
}

/// What `--check` says of a configuration that can be used: what runs, and every remark.
pub fn explain(config: &Config, remarks: &[Remark]) -> String {
    let mut text = String::new();
    for (id, pipeline) in &config.service.pipelines {
        let list = |ids: &[hesper_collector_config::Id]| {
            ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let mut steps = vec![list(&pipeline.receivers)];
        if !pipeline.processors.is_empty() {
            steps.push(list(&pipeline.processors));
        }
        steps.push(list(&pipeline.exporters));
        let _ = writeln!(text, "pipeline {id}: {}", steps.join(" -> "));
    }
    for remark in remarks {
        let _ = writeln!(text, "warning: {remark}");
    }
    let _ = match remarks.len() {
        0 => writeln!(text, "the configuration can be used"),
        1 => writeln!(text, "the configuration can be used; 1 warning"),
        n => writeln!(text, "the configuration can be used; {n} warnings"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
receivers: {otlp: {protocols: {grpc: }}}
processors: {resource: {attributes: [{key: a, value: b, action: insert}]}}
exporters: {debug: }
service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}
";

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.yaml");
        std::fs::write(&path, text).expect("written");
        (directory, path)
    }

    #[test]
    fn what_runs_and_what_does_not_is_told() {
        let (_directory, path) = file(GOOD);
        let (config, remarks) = read(&[path]).expect("a configuration");
        let text = explain(&config, &remarks);
        assert!(text.contains("pipeline traces: otlp -> debug\n"), "{text}");
        assert!(text.contains("config.yaml:2:"), "{text}");
        assert!(text.ends_with("the configuration can be used; 1 warning\n"), "{text}");
    }

    #[test]
    fn every_fault_is_a_line_with_its_place() {
        let (_directory, path) = file("receivers: {otpl: }\nservice: {pipelinse: {}}\n");
        let error = read(&[path]).expect_err("no configuration").to_string();
        assert!(error.contains("config.yaml:1:13:") && error.contains("config.yaml:2:"), "{error}");
        let missing = read(&["nowhere.yaml".into()]).expect_err("no file").to_string();
        assert!(missing.contains("nowhere.yaml"), "{missing}");
    }
}

//! The crate from outside: files in, settings, remarks and faults out.

mod common;
mod environment;
mod exporters;
mod extensions;
mod faults;
mod files;
mod filtering;
mod processors;
mod properties;
mod receivers;
mod references;
mod remarks;
mod scraping;
mod seeds;
mod telemetry;

use hesper_collector_config::{
    Config, Fault, Remark, exporters::Exporter, extensions::Extension, load, processors::Processor,
    receivers::Receiver,
};

/// The least that runs; tests lay what they are about over it.
const BASE: &str = "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {debug: }\n\
                    service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}\n";

/// What the environment of tests says.
fn env(name: &str) -> Option<String> {
    let value = match name {
        "KUBE_NODE_NAME" => "node-7",
        "PASSWORD" => "0123",
        "ENDPOINT" => "collector:4317",
        "LIST" => "[otlp]",
        "MAP" => "{grpc: {endpoint: 'localhost:1'}}",
        "YES" => "true",
        "EMPTY" => "",
        "DOLLAR" => "a$$b${env:PASSWORD}",
        _ => return None,
    };
    Some(value.into())
}

/// Loads a text laid over [`BASE`].
fn over_base(text: &str) -> Result<(Config, Vec<Remark>), Vec<Fault>> {
    load(&[("base.yaml", BASE), ("f.yaml", text)], &env)
}

fn config(text: &str) -> Config {
    over_base(text).unwrap_or_else(|faults| panic!("{text}\n{}", told(&faults))).0
}

/// The remarks on a text, except that a component is in no pipeline or has a newer name.
fn remarks(text: &str) -> Vec<String> {
    use hesper_collector_config::Topic;
    let (_, remarks) = over_base(text).unwrap_or_else(|faults| panic!("{text}\n{}", told(&faults)));
    let told = remarks.iter().filter(|r| r.topic != Topic::Unused && r.topic != Topic::Renamed);
    told.map(ToString::to_string).collect()
}

fn faults(text: &str) -> Vec<String> {
    match over_base(text) {
        Ok(_) => panic!("this is fine:\n{text}"),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

fn told(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

/// The settings of the only component of a section besides those of [`BASE`], from its body in flow style.
fn receiver(kind: &str, body: &str) -> Receiver {
    let config = config(&format!("receivers: {{{kind}/x: {body}}}"));
    config.receivers[&format!("{kind}/x").parse().expect("an id")].settings.clone()
}

fn processor(kind: &str, body: &str) -> Processor {
    let config = config(&format!("processors: {{{kind}/x: {body}}}"));
    config.processors[&format!("{kind}/x").parse().expect("an id")].settings.clone()
}

fn exporter(kind: &str, body: &str) -> Exporter {
    let config = config(&format!("exporters: {{{kind}/x: {body}}}"));
    config.exporters[&format!("{kind}/x").parse().expect("an id")].settings.clone()
}

fn extension(kind: &str, body: &str) -> Extension {
    let config = config(&format!("extensions: {{{kind}/x: {body}}}"));
    config.extensions[&format!("{kind}/x").parse().expect("an id")].settings.clone()
}

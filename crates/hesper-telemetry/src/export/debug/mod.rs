//! Telling what passes (`debug`, once `logging`): how much, or one line for each item, or everything.

mod sampler;
mod text;

use self::sampler::Sampler;
use super::{BuildError, Exporter, Failure, Shipment};
use crate::process::Messages;
use futures::{FutureExt, future::BoxFuture};
use hesper_collector_config::exporters::{Debug as Settings, Verbosity};
use hesper_otlp::{Batch, PartialSuccess};
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    sync::Arc,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Tells what passes, in our log or elsewhere. Every batch is delivered, told or not.
pub struct Debug {
    name: String,
    verbosity: Verbosity,
    sampler: Mutex<Sampler>,
    started: Instant,
    /// None: our own log.
    outputs: Option<Mutex<Vec<Output>>>,
}

enum Output {
    Stdout,
    Stderr,
    File(File),
}

impl Debug {
    /// One of these settings. `name` is the id of the exporter, which each line tells.
    ///
    /// # Errors
    /// A file of `output_paths` cannot be opened.
    pub fn new(name: &str, settings: &Settings) -> Result<Arc<Self>, BuildError> {
        let open = |path: &String| match path.as_str() {
            "stdout" => Ok(Output::Stdout),
            "stderr" => Ok(Output::Stderr),
            path => {
                OpenOptions::new().create(true).append(true).open(path).map(Output::File).map_err(|error| {
                    BuildError(format!(
                        "exporter '{name}': cannot write to {path}: {error}; correct output_paths"
                    ))
                })
            }
        };
        let outputs = match settings.use_internal_logger {
            true => None,
            false => Some(settings.output_paths.iter().map(open).collect::<Result<Vec<_>, _>>()?),
        };
        Ok(Arc::new(Self {
            name: name.to_owned(),
            verbosity: settings.verbosity,
            sampler: Mutex::new(Sampler::new(settings.sampling_initial, settings.sampling_thereafter)),
            started: Instant::now(),
            outputs: outputs.map(Mutex::new),
        }))
    }

    fn tell(&self, batch: &Batch) -> Result<(), Failure> {
        let second = self.started.elapsed().as_secs();
        let told = self.sampler.lock().unwrap_or_else(PoisonError::into_inner).take(second);
        if self.verbosity == Verbosity::None || !told {
            return Ok(());
        }
        let unreadable =
            |reason: String| Failure::Never { reason: format!("exporter '{}': {reason}", self.name) };
        let messages = Messages::decode(batch.signal, batch.payload.clone());
        let messages = messages.map_err(|error| unreadable(error.to_string()))?;
        let mut text = text::counts(&messages);
        match self.verbosity {
            Verbosity::Normal => text.extend(text::lines(&messages).iter().map(|line| format!("\n{line}"))),
            Verbosity::Detailed => {
                text.push('\n');
                text.push_str(&text::everything(batch).map_err(unreadable)?);
            }
            Verbosity::None | Verbosity::Basic => {}
        }
        self.write(&text);
        Ok(())
    }

    fn write(&self, text: &str) {
        let Some(outputs) = &self.outputs else {
            tracing::info!(exporter = self.name, "{text}");
            return;
        };
        let line = format!("{}\t{text}\n", self.name);
        for output in outputs.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let written = match output {
                Output::Stdout => io::stdout().write_all(line.as_bytes()),
                Output::Stderr => io::stderr().write_all(line.as_bytes()),
                Output::File(file) => file.write_all(line.as_bytes()),
            };
            if let Err(error) = written {
                tracing::warn!(exporter = self.name, %error, "what passes cannot be told: writing failed");
            }
        }
    }
}

impl Exporter for Debug {
    fn export<'a>(&'a self, shipment: &'a Shipment) -> BoxFuture<'a, Result<PartialSuccess, Failure>> {
        async move { self.tell(&shipment.batch).map(|()| PartialSuccess::default()) }.boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

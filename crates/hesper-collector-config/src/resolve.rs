//! Do the names fit together? Pipelines, authenticators, storages; and what is defined for nothing.

use crate::{
    Class, Config, Endpoint, Id, PipelineId, Processor, Receiver, Topic,
    reader::{Reader, Reference, Wanted},
};
use hesper_yaml::{Place, nearest};
use std::collections::{BTreeMap, BTreeSet};

/// What is written where.
#[derive(Default)]
pub(crate) struct Written {
    /// Every component that is named, readable or not.
    pub(crate) components: BTreeMap<Class, BTreeMap<Id, Place>>,
    /// `service.extensions`
    pub(crate) extensions: Vec<(Id, Place)>,
    /// Where that is, or would be.
    pub(crate) extensions_place: Option<Place>,
    /// What pipelines use.
    pub(crate) uses: Vec<(PipelineId, Class, Id, Place)>,
}

/// Adds every fault and remark that concerns more than one component.
pub(crate) fn resolve(config: &Config, written: &Written, reader: &Reader<'_>) {
    let used = written.uses.iter().map(|(_, class, id, _)| (*class, id));
    let running = written.extensions.iter().map(|(id, _)| (Class::Extension, id));
    let resolver = Resolver { config, written, reader, used: used.chain(running).collect() };
    resolver.running_extensions();
    for (pipeline, class, id, place) in &written.uses {
        resolver.used(pipeline, *class, id, place);
    }
    let references = reader.references();
    for reference in &references {
        resolver.reference(reference);
    }
    resolver.unused(&references);
    resolver.listeners();
    resolver.batches();
}

struct Resolver<'a> {
    config: &'a Config,
    written: &'a Written,
    reader: &'a Reader<'a>,
    /// What pipelines name, and the extensions that run.
    used: BTreeSet<(Class, &'a Id)>,
}

impl Resolver<'_> {
    fn place(&self, class: Class, id: &Id) -> Option<&Place> {
        self.written.components.get(&class).and_then(|components| components.get(id))
    }

    fn is_used(&self, class: Class, id: &Id) -> bool {
        self.used.contains(&(class, id))
    }

    /// What to do about an id that is not defined.
    fn missing(&self, class: Class, id: &Id) -> String {
        let components = self.written.components.get(&class);
        let known: Vec<String> = components.into_iter().flatten().map(|(id, _)| id.to_string()).collect();
        match nearest(&id.to_string(), known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("define it under {}, or take it out", class.plural()),
        }
    }

    fn running_extensions(&self) {
        for (id, place) in &self.written.extensions {
            if self.place(Class::Extension, id).is_none() {
                let reason = format!("service.extensions names '{id}', which is not defined");
                self.reader.fault(place, reason, self.missing(Class::Extension, id));
            }
        }
    }

    fn used(&self, pipeline: &PipelineId, class: Class, id: &Id, place: &Place) {
        if self.place(class, id).is_none() {
            let reason = format!("pipeline '{pipeline}' names {class} '{id}', which is not defined");
            let other = [Class::Receiver, Class::Processor, Class::Exporter, Class::Extension]
                .into_iter()
                .find(|other| *other != class && self.place(*other, id).is_some());
            let next = match other {
                Some(other) => format!("there is {other} '{id}'; did you mean a {class}?"),
                None => self.missing(class, id),
            };
            self.reader.fault(place, reason, next);
            return;
        }
        let config = self.config;
        let carries = match class {
            Class::Receiver => config.receivers.get(id).map(|c| c.settings.carries(pipeline.signal)),
            Class::Processor => config.processors.get(id).map(|c| c.settings.carries(pipeline.signal)),
            Class::Exporter => config.exporters.get(id).map(|c| c.settings.carries(pipeline.signal)),
            Class::Extension => None,
        };
        if carries == Some(false) {
            let reason = format!("{class} '{id}' does not carry {}", pipeline.signal);
            self.reader.fault(place, reason, format!("take it out of pipeline '{pipeline}'"));
        }
    }

    fn reference(&self, reference: &Reference) {
        let Reference { wanted, to, place, owner } = reference;
        // What does not run refers to nothing; that it does not run is told.
        if !owner.as_ref().is_some_and(|(class, id)| self.is_used(*class, id)) {
            return;
        }
        let role = match wanted {
            Wanted::ServerAuth | Wanted::ClientAuth => "authenticator",
            Wanted::Storage => "storage",
        };
        let Some(defined) = self.place(Class::Extension, to) else {
            self.reader.fault(
                place,
                format!("{role} '{to}' is not defined"),
                self.missing(Class::Extension, to),
            );
            return;
        };
        if !self.is_used(Class::Extension, to) {
            let list =
                self.written.extensions_place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
            let reason =
                format!("{role} '{to}' is defined at {defined}, but not in service.extensions{list}");
            self.reader.fault(place, reason, format!("add {to} to service.extensions"));
            return;
        }
        let Some(extension) = self.config.extensions.get(to) else { return };
        if !extension.settings.serves(*wanted) {
            let (what, next) = match wanted {
                Wanted::ServerAuth => {
                    ("checks no callers", "name basicauth with htpasswd, bearertokenauth or oidc")
                }
                Wanted::ClientAuth => (
                    "does not say who we are",
                    "name basicauth with client_auth, bearertokenauth or headers_setter",
                ),
                Wanted::Storage => ("stores nothing", "name a file_storage"),
            };
            self.reader.fault(place, format!("'{to}' (at {defined}) {what}"), next);
        }
    }

    fn unused(&self, references: &[Reference]) {
        let referred: BTreeSet<&Id> = references.iter().map(|reference| &reference.to).collect();
        for (class, components) in &self.written.components {
            let runs = components.keys().filter(|id| self.is_used(*class, id));
            let running: BTreeMap<&str, &Id> = runs.map(|id| (id.kind(), id)).collect();
            for (id, place) in components {
                if self.is_used(*class, id) {
                    self.unneeded(*class, id, &referred);
                    continue;
                }
                let (what, next) = match class {
                    Class::Extension if referred.contains(id) => continue,
                    Class::Extension => ("is not in service.extensions", "add it there".to_owned()),
                    _ => ("is in no pipeline", format!("add it to {} of a pipeline", class.plural())),
                };
                let twin = running.get(id.kind()).map(|twin| format!(" ('{twin}' of the same type runs)"));
                let twin = twin.unwrap_or_default();
                let reason = format!("{class} '{id}' is defined, but {what}: it does nothing{twin}");
                self.reader.remark(Topic::Unused, place, reason, format!("{next}, or take it out"));
            }
        }
    }

    /// An extension that runs, but that only others could use.
    fn unneeded(&self, class: Class, id: &Id, referred: &BTreeSet<&Id>) {
        let serves = |wanted| self.config.extensions.get(id).is_some_and(|e| e.settings.serves(wanted));
        let passive = serves(Wanted::ServerAuth) || serves(Wanted::ClientAuth) || serves(Wanted::Storage);
        let Some(place) = self.place(class, id).filter(|_| class == Class::Extension && passive) else {
            return;
        };
        if !referred.contains(id) {
            let reason = format!("extension '{id}' runs, but no component names it: it does nothing");
            let next = "name it as authenticator or storage, or take it out";
            self.reader.remark(Topic::Unused, place, reason, next);
        }
    }

    /// Two listeners cannot have one address.
    fn listeners(&self) {
        let mut taken: Vec<(&Endpoint, &Place)> = Vec::new();
        for (id, component) in &self.config.receivers {
            let Receiver::Otlp(otlp) = &component.settings else { continue };
            if !self.is_used(Class::Receiver, id) {
                continue;
            }
            let http = otlp.http.as_ref().map(|http| &http.server.endpoint);
            for endpoint in otlp.grpc.as_ref().map(|grpc| &grpc.endpoint).into_iter().chain(http) {
                let fixed = endpoint.underlay().is_some_and(|address| address.port != Some(0));
                if let Some((_, first)) = taken.iter().find(|(other, _)| *other == endpoint && fixed) {
                    let reason =
                        format!("receiver '{id}' listens on {endpoint}, and so does the one at {first}");
                    self.reader.fault(&component.place, reason, "give one of them another endpoint");
                }
                taken.push((endpoint, &component.place));
            }
        }
    }

    /// In the Collector a batch waits in memory before it reaches a queue on disk.
    fn batches(&self) {
        for (id, class, processor, place) in &self.written.uses {
            let batch = self.config.processors.get(processor).map(|component| &component.settings);
            if *class != Class::Processor || !matches!(batch, Some(Processor::Batch(_))) {
                continue;
            }
            let Some(pipeline) = self.config.service.pipelines.get(id) else { continue };
            let stored = pipeline.exporters.iter().any(|id| {
                let exporter = self.config.exporters.get(id).map(|component| &component.settings);
                exporter.and_then(|e| e.sending_queue()).is_some_and(|queue| queue.storage.is_some())
            });
            if stored {
                let reason =
                    format!("'{processor}' stands before a queue on disk; here batches are made behind it");
                let next = "nothing is to be done: what is acknowledged is on disk; sending_queue.batch says the same";
                self.reader.remark(Topic::Durability, place, reason, next);
            }
        }
    }
}

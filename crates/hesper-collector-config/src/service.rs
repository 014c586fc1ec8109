//! `service`: which extensions run, and the pipelines.

use crate::{
    Class, Id, Pipeline, PipelineId, Service, Signal, Telemetry, resolve::Written, section::Section,
    telemetry,
};
use hesper_yaml::{Place, advice};
use std::collections::BTreeSet;

/// Reads `service` of the configuration; `written` keeps the place of every id.
pub(crate) fn read(s: &Section<'_>, written: &mut Written) -> Service {
    if !s.has("service") {
        s.fault(
            &s.place,
            "there is no service",
            "add service: {pipelines: {traces: {receivers: […], exporters: […]}}}",
        );
    }
    let mut service = Service::default();
    s.section("service", |s| {
        written.extensions_place = Some(s.place_of("extensions").clone());
        written.extensions = ids(s, "extensions");
        service.extensions = written.extensions.iter().map(|(id, _)| id.clone()).collect();
        service.telemetry = s.section("telemetry", telemetry::read).unwrap_or_else(Telemetry::default);
        let written = s.section("pipelines", |s| {
            pipelines(s, &mut service, written);
            s.all().len()
        });
        if written == Some(0) || !s.has("pipelines") {
            let next = "add pipelines: {traces: {receivers: […], exporters: […]}}";
            s.fault(s.place_of("pipelines"), "the service has no pipelines", next);
        }
    });
    service
}

fn pipelines(s: &Section<'_>, service: &mut Service, written: &mut Written) {
    s.anything();
    for entry in s.all() {
        let Some(id) = pipeline_id(s, &entry.key, &entry.place) else { continue };
        let what = format!("pipeline '{id}'");
        Section::read(s.reader, what, &entry.value, |s| {
            let mut list = |class: Class| -> Vec<Id> {
                let named = ids(s, class.plural());
                if named.is_empty() && class != Class::Processor && s.items(class.plural()).is_empty() {
                    let reason = format!("pipeline '{id}' has no {}", class.plural());
                    s.fault(s.place_of(class.plural()), reason, format!("add {}: [ID]", class.plural()));
                }
                written
                    .uses
                    .extend(named.iter().map(|(named, at)| (id.clone(), class, named.clone(), at.clone())));
                named.into_iter().map(|(id, _)| id).collect()
            };
            let pipeline = Pipeline {
                place: entry.place.clone(),
                receivers: list(Class::Receiver),
                processors: list(Class::Processor),
                exporters: list(Class::Exporter),
            };
            if service.pipelines.insert(id.clone(), pipeline).is_some() {
                s.fault(
                    &entry.place,
                    format!("pipeline '{id}' is defined twice"),
                    "give one of them another name",
                );
            }
        });
    }
}

fn pipeline_id(s: &Section<'_>, text: &str, place: &Place) -> Option<PipelineId> {
    let words = Signal::ALL.map(Signal::name);
    let id: Id = match text.parse() {
        Ok(id) => id,
        Err(_) => {
            s.fault(
                place,
                format!("'{}' is no pipeline", text.escape_debug()),
                "write SIGNAL or SIGNAL/NAME",
            );
            return None;
        }
    };
    let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.name() == id.kind()) else {
        let reason = format!("'{}' is no signal", id.kind());
        s.fault(place, reason, advice(id.kind(), "signals", &words));
        return None;
    };
    Some(PipelineId { signal, name: id.name().map(str::to_owned) })
}

/// A list of ids with their places; none twice.
fn ids(s: &Section<'_>, key: &'static str) -> Vec<(Id, Place)> {
    let mut ids: Vec<(Id, Place)> = Vec::new();
    let mut seen = BTreeSet::new();
    for scalar in s.scalars(key) {
        match scalar.text.text.parse::<Id>() {
            Ok(id) if !seen.insert(id.clone()) => {
                s.fault(scalar.place, format!("'{id}' is in {key} of {} twice", s.what), "keep one of them");
            }
            Ok(id) => ids.push((id, scalar.place.clone())),
            Err(next) => s.fault(scalar.place, format!("{} in {key} is no id", scalar.text.shown()), next),
        }
    }
    ids
}

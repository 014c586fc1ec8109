//! The components between receivers and queues, made of their settings or kept.

use super::{
    StartError,
    processors::{self, Made},
};
use crate::{kept::Kept, mesh::MeshConnector};
use hesper_collector_config::{
    Auth, Config, Exporter as Settings, Extension, Id, Processor as Step,
    extensions::{HeaderSource, SetHeader},
    processors::{Action, ActionSource, Change},
};
use hesper_telemetry::{
    auth::{self, Authenticator, ClientAuth, server::Raw},
    export::{self, Exporter, otlp::Hop, remote_write::RemoteWrite},
    process::Processor,
};
use std::sync::Arc;

/// Extensions that stand on one another; whoever makes them refuses a circle.
const MAX_CHAIN: usize = 8;

/// What exporters and processors of one configuration are, and what they were made of.
#[derive(Clone, Default)]
pub(crate) struct Parts {
    authenticators: Kept<Extension, Arc<dyn Authenticator>>,
    client_auths: Kept<Vec<Extension>, Arc<dyn ClientAuth>>,
    exporters: Kept<(Settings, Vec<Extension>), Arc<dyn Exporter>>,
    processors: Kept<Step, Made>,
}

impl Parts {
    /// The processors.
    pub(crate) fn processors(&self) -> impl Iterator<Item = (&Id, &Made)> {
        self.processors.iter()
    }

    /// The exporters.
    pub(crate) fn exporters(&self) -> impl Iterator<Item = &Arc<dyn Exporter>> {
        self.exporters.iter().map(|(_, exporter)| exporter)
    }
}

/// Makes the parts of a configuration, keeping those of `before` that it does not change.
pub(crate) struct Maker<'a> {
    pub(crate) config: &'a Config,
    pub(crate) before: &'a Parts,
    pub(crate) connector: &'a Arc<MeshConnector>,
    pub(crate) parts: Parts,
}

impl Maker<'_> {
    /// The authenticator that a receiver names, and its settings.
    pub(crate) fn authenticator(
        &mut self,
        auth: Option<&Auth>,
    ) -> Result<Option<Arc<dyn Authenticator>>, StartError> {
        let Some(id) = auth.map(|auth| &auth.authenticator) else { return Ok(None) };
        let settings = self.extension(id)?.clone();
        let raw = if self.keeps_credentials() { Raw::Keep } else { Raw::Forget };
        let make = |settings: &Extension| {
            auth::server::build(settings, raw).map_err(|error| StartError::of("extension", id, error))
        };
        self.parts.authenticators.get(&self.before.authenticators, id, settings, make).map(Some)
    }

    /// Does anything ask for credentials as they came (`auth.raw`)? Only then they are kept beside the data.
    fn keeps_credentials(&self) -> bool {
        let extensions = self.config.extensions.values().map(|component| &component.settings);
        let mut set = extensions.filter_map(|extension| match extension {
            Extension::HeadersSetter(setter) => Some(&setter.headers),
            _ => None,
        });
        let asks = |header: &SetHeader| matches!(&header.source, Some(HeaderSource::Attribute { key, .. }) if key == "raw");
        let processors = self.config.processors.values().map(|component| &component.settings);
        set.any(|headers| headers.iter().any(asks))
            || processors.flat_map(actions).any(|action| match &action.change {
                Change::Insert(source) | Change::Update(source) | Change::Upsert(source) => {
                    matches!(source, ActionSource::Context { key, .. } if key == "auth.raw")
                }
                _ => false,
            })
    }

    /// What an exporter says who we are with.
    fn client_auth(&mut self, auth: Option<&Auth>) -> Result<Option<Arc<dyn ClientAuth>>, StartError> {
        let Some(id) = auth.map(|auth| &auth.authenticator) else { return Ok(None) };
        let extensions = &self.config.extensions;
        let make = |_: &Vec<Extension>| {
            auth::client::build(id, extensions).map_err(|error| StartError::of("extension", id, error))
        };
        self.parts.client_auths.get(&self.before.client_auths, id, self.chain(id)?, make).map(Some)
    }

    /// The settings of an extension, and of those that it stands on.
    fn chain(&self, id: &Id) -> Result<Vec<Extension>, StartError> {
        let mut chain = vec![self.extension(id)?.clone()];
        while let Some(Extension::HeadersSetter(setter)) = chain.last()
            && let Some(below) = &setter.additional_auth
            && chain.len() < MAX_CHAIN
        {
            chain.push(self.extension(below)?.clone());
        }
        Ok(chain)
    }

    /// The settings of an extension.
    pub(crate) fn extension(&self, id: &Id) -> Result<&Extension, StartError> {
        let found = self.config.extensions.get(id).map(|component| &component.settings);
        found.ok_or_else(|| StartError::of("extension", id, "it is not defined"))
    }

    /// An exporter.
    pub(crate) fn exporter(&mut self, id: &Id) -> Result<Arc<dyn Exporter>, StartError> {
        let component = self.config.exporters.get(id);
        let settings = component
            .map(|c| &c.settings)
            .ok_or_else(|| StartError::of("exporter", id, "it is not defined"))?;
        let auth = match settings {
            Settings::Otlp(otlp) => otlp.client.auth.as_ref(),
            Settings::OtlpHttp(otlp) => otlp.client.auth.as_ref(),
            Settings::PrometheusRemoteWrite(write) => write.client.auth.as_ref(),
            Settings::Debug(_) | Settings::File(_) => None,
        };
        let chain = auth.map(|auth| self.chain(&auth.authenticator)).transpose()?.unwrap_or_default();
        let auth = self.client_auth(auth)?;
        let connector = self.connector.clone();
        let make = |(settings, _): &(Settings, Vec<Extension>)| {
            make_exporter(&id.to_string(), settings, connector, auth)
                .map_err(|error| StartError::of("exporter", id, error))
        };
        self.parts.exporters.get(&self.before.exporters, id, (settings.clone(), chain), make)
    }

    /// A processor; none for `batch`, which is done behind the queue.
    pub(crate) async fn processor(&mut self, id: &Id) -> Result<Option<Arc<dyn Processor>>, StartError> {
        let component = self.config.processors.get(id);
        let settings = component
            .map(|c| &c.settings)
            .ok_or_else(|| StartError::of("processor", id, "it is not defined"))?;
        if let Some(kept) = self.parts.processors.kept(&self.before.processors, id, settings) {
            return Ok(Some(kept.processor));
        }
        let made = processors::make(id, settings).await?;
        Ok(made.map(|made| self.parts.processors.put(id, settings.clone(), made).processor))
    }
}

fn actions(processor: &Step) -> &[Action] {
    match processor {
        Step::Resource(actions) => actions,
        Step::Attributes(attributes) => &attributes.actions,
        _ => &[],
    }
}

/// Is what stands behind this exporter another gateway? Over the mesh it may be one; it believes what it is told only if policy
/// says so.
pub(super) fn is_gateway(settings: &Settings) -> bool {
    let endpoints = settings.endpoints();
    let otlp = matches!(settings, Settings::Otlp(_) | Settings::OtlpHttp(_));
    otlp && !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.is_mesh())
}

fn make_exporter(
    name: &str,
    settings: &Settings,
    connector: Arc<MeshConnector>,
    auth: Option<Arc<dyn ClientAuth>>,
) -> Result<Arc<dyn Exporter>, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let hop = if is_gateway(settings) { Hop::Gateway } else { Hop::Receiver };
    match settings {
        Settings::Otlp(otlp) => {
            export::otlp::Grpc::new(name, otlp, connector, auth, hop).map(|e| e as _).map_err(|e| told(&e))
        }
        Settings::OtlpHttp(otlp) => {
            export::otlp::Http::new(name, otlp, connector, auth, hop).map(|e| e as _).map_err(|e| told(&e))
        }
        Settings::Debug(debug) => {
            export::debug::Debug::new(name, debug).map(|e| e as _).map_err(|e| told(&e))
        }
        Settings::File(file) => export::file::File::new(name, file).map(|e| e as _).map_err(|e| told(&e)),
        Settings::PrometheusRemoteWrite(write) => {
            RemoteWrite::new(name, write, connector, auth).map(|e| e as _).map_err(|e| told(&e))
        }
    }
}

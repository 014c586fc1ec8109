//! The configs of one service, decoded.

use hesper_model::config::{HostV1, HostV2, InterceptV1, ProxyV1, ScrapeV1};
use hesper_sdk::Service;
use serde::de::DeserializeOwned;

/// What a service's configs say to a tunneler. Configs of other types are somebody else's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configs {
    /// Where clients look for it.
    pub intercept: Option<InterceptV1>,
    /// Where its streams go: the terminators of `host.v2`, else the one of `host.v1`, else none.
    pub hosting: Vec<HostV1>,
    /// A listener for it.
    pub proxy: Option<ProxyV1>,
    /// How it is scraped.
    pub scrape: ScrapeV1,
    /// Configs that could not be read, each with the reason: `host.v1: missing field …`. They count as absent.
    pub faults: Vec<String>,
}

impl Configs {
    /// Decodes what the controller sent.
    pub fn of(service: &Service) -> Self {
        let mut configs = Self::default();
        configs.intercept = configs.read(service, InterceptV1::NAME);
        configs.proxy = configs.read(service, ProxyV1::NAME);
        configs.scrape = configs.read(service, ScrapeV1::NAME).unwrap_or_default();
        let several: Option<HostV2> = configs.read(service, HostV2::NAME);
        let one: Option<HostV1> = configs.read(service, HostV1::NAME);
        configs.hosting = match several {
            Some(several) => several.terminators,
            None => one.into_iter().collect(),
        };
        configs
    }

    fn read<T: DeserializeOwned>(&mut self, service: &Service, name: &str) -> Option<T> {
        let text = service.configs.get(name)?;
        serde_json::from_str(text).map_err(|fault| self.faults.push(format!("{name}: {fault}"))).ok()
    }
}

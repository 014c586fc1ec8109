//! When certificates expire, each of which is asked for at each scrape.

use super::Collector;
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Seconds since 1970; none: there is no such certificate now.
type Expiry = Box<dyn Fn() -> Option<i64> + Send + Sync>;

/// Those of this process, by who holds them.
#[derive(Clone, Default)]
pub(super) struct Certificates(Arc<Mutex<Vec<(&'static str, Expiry)>>>);

impl Certificates {
    pub(super) fn add(&self, holder: &'static str, expiry: Expiry) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((holder, expiry));
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = all.iter().filter_map(|(holder, expiry)| Some((*holder, expiry()?)));
        let there: Vec<_> = there.collect();
        if there.is_empty() {
            return Ok(());
        }
        let (name, help) = (
            "hesper_certificate_expiry_timestamp_seconds",
            "When the certificate expires, in seconds since the Unix epoch, by its holder",
        );
        let mut block = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (holder, expiry) in there {
            ConstGauge::new(expiry).encode(block.encode_family(&[("holder", holder)])?)?;
        }
        Ok(())
    }
}

//! Options of dial and bind.

use crate::Observer;
use std::{sync::Arc, time::Duration};

/// How long a dial may take in all, unless told otherwise.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long grants that lapse while no controller can be reached are honoured, unless told otherwise.
pub(crate) const OUTAGE_GRACE: Duration = Duration::from_secs(24 * 3600);

/// How an identity is on the overlay.
#[derive(Clone, Debug)]
pub struct ContextOptions {
    /// Streams to this node whose grants lapse while no controller can be reached go on for so long; zero = not at all. New streams by
    /// grants of before are accepted as long.
    pub outage_grace: Duration,
    /// Hears of each dial and each accept.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for ContextOptions {
    fn default() -> Self {
        Self { outage_grace: OUTAGE_GRACE, observer: None }
    }
}

/// How to dial.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Reach only terminators bound with this instance id; empty = any. When it is given, the dialed name is the service's as it stands,
    /// also if it has an `@` in it.
    pub instance: Option<String>,
    /// Told to the hosting program: JSON with any of `dst_protocol`, `dst_ip`, `dst_port`, `dst_hostname`, `src_ip`, `src_port`,
    /// `source_addr`. Empty = nothing.
    pub app_data: String,
    /// Longest time until the stream is open, every retry included.
    pub timeout: Duration,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self { instance: None, app_data: String::new(), timeout: DIAL_TIMEOUT }
    }
}

/// Preference among the terminators of a service: `failed` ones are used last, `required` ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// Used whenever one is there.
    Required,
    /// The usual.
    Default,
    /// Used when nothing else is there.
    Failed,
}

impl Precedence {
    /// The protocol's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Default => "default",
            Self::Failed => "failed",
        }
    }
}

/// How to bind.
#[derive(Clone, Debug, Default)]
pub struct BindOptions {
    /// Instance id that dialers may ask for; absent = the identity's name. The name of another identity is refused.
    pub instance: Option<String>,
    /// Static cost; absent = the identity's default.
    pub cost: Option<u16>,
    /// Precedence; absent = the identity's default.
    pub precedence: Option<Precedence>,
    /// Where the streams end, shown to the operator (`tcp:127.0.0.1:9100`).
    pub address: String,
}

/// A change of what is bound; what is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct BindUpdate {
    /// Static cost.
    pub cost: Option<u16>,
    /// Precedence.
    pub precedence: Option<Precedence>,
    /// Where the streams end now.
    pub address: Option<String>,
}

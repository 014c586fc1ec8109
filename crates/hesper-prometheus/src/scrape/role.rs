//! Which family a sample belongs to, and what it is in it.

use crate::text::Kind;
use std::{borrow::Cow, collections::HashMap};

/// What a family's lines of comment said.
#[derive(Clone, Debug, Default)]
pub(super) struct Meta<'a> {
    pub(super) kind: Kind,
    pub(super) help: Cow<'a, str>,
    pub(super) unit: &'a str,
}

pub(super) type Metas<'a> = HashMap<Cow<'a, str>, Meta<'a>>;

/// What a sample is in its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The value itself; of a summary a quantile.
    Value,
    Bucket,
    Sum,
    Count,
    /// When the family's counting began.
    Created,
}

/// A sample's place.
pub(super) struct Place<'m, 'a> {
    /// What is known of the family; `None`: nothing was said of it.
    pub(super) meta: Option<&'m Meta<'a>>,
    pub(super) kind: Kind,
    pub(super) role: Role,
    /// What the sample's name has more than the family's.
    pub(super) suffix: &'static str,
}

const SUFFIXES: [(&str, Role, &[Kind]); 8] = [
    ("_total", Role::Value, &[Kind::Counter]),
    ("_bucket", Role::Bucket, &[Kind::Histogram, Kind::GaugeHistogram]),
    ("_count", Role::Count, &[Kind::Histogram, Kind::Summary]),
    ("_sum", Role::Sum, &[Kind::Histogram, Kind::Summary]),
    ("_created", Role::Created, &[Kind::Counter, Kind::Histogram, Kind::Summary]),
    ("_info", Role::Value, &[Kind::Info]),
    ("_gcount", Role::Count, &[Kind::GaugeHistogram]),
    ("_gsum", Role::Sum, &[Kind::GaugeHistogram]),
];

/// Finds the place of a sample by its name as it was exposed. A family of exactly that name comes first.
pub(super) fn place<'m, 'a>(name: &str, metas: &'m Metas<'a>) -> Place<'m, 'a> {
    if let Some(meta) = metas.get(name)
        && !matches!(meta.kind, Kind::Histogram | Kind::GaugeHistogram)
    {
        return Place { meta: Some(meta), kind: meta.kind, role: Role::Value, suffix: "" };
    }
    for (suffix, role, kinds) in SUFFIXES {
        if let Some(meta) = name.strip_suffix(suffix).and_then(|family| metas.get(family))
            && kinds.contains(&meta.kind)
        {
            return Place { meta: Some(meta), kind: meta.kind, role, suffix };
        }
    }
    Place { meta: None, kind: Kind::Unknown, role: Role::Value, suffix: "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_find_their_family() {
        let kinds = [
            ("c", Kind::Counter),
            ("text_total", Kind::Counter),
            ("h", Kind::Histogram),
            ("s", Kind::Summary),
            ("i", Kind::Info),
            ("gh", Kind::GaugeHistogram),
            ("g", Kind::Gauge),
            ("h_count_of", Kind::Gauge),
            ("g_sum", Kind::Gauge),
        ];
        let metas: Metas<'_> =
            kinds.map(|(name, kind)| (Cow::Borrowed(name), Meta { kind, ..Meta::default() })).into();
        for (name, kind, role, suffix) in [
            ("c_total", Kind::Counter, Role::Value, "_total"),
            ("c_created", Kind::Counter, Role::Created, "_created"),
            ("text_total", Kind::Counter, Role::Value, ""),
            ("h_bucket", Kind::Histogram, Role::Bucket, "_bucket"),
            ("h_count", Kind::Histogram, Role::Count, "_count"),
            ("h", Kind::Unknown, Role::Value, ""),
            ("s", Kind::Summary, Role::Value, ""),
            ("s_sum", Kind::Summary, Role::Sum, "_sum"),
            ("i_info", Kind::Info, Role::Value, "_info"),
            ("gh_gcount", Kind::GaugeHistogram, Role::Count, "_gcount"),
            ("gh_bucket", Kind::GaugeHistogram, Role::Bucket, "_bucket"),
            ("h_count_of", Kind::Gauge, Role::Value, ""),
            ("g_sum", Kind::Gauge, Role::Value, ""),
            ("g_total", Kind::Unknown, Role::Value, ""),
            ("x", Kind::Unknown, Role::Value, ""),
        ] {
            let place = place(name, &metas);
            assert_eq!((place.kind, place.role, place.suffix), (kind, role, suffix), "{name}");
        }
    }
}
